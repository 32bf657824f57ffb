"""Addresses of a manifest's images whose folder moved."""

from __future__ import annotations

from taxonomist.backend.labelling.manifests.addresses import assign_addresses
from taxonomist.backend.labelling.manifests.reading.files import FoundFile


def test_a_folder_with_repeated_file_names_moves() -> None:
    """Time in proportion to the images: the product of files and addresses takes more than 20 s here."""
    names = [f"p{number}/1.jpg" for number in range(10_000)]
    found = assign_addresses([FoundFile("/new", name) for name in names], "s", [f"/old/{name}" for name in names], [])
    assert found.of_path == {f"/new/{name}": f"/old/{name}" for name in names}


def test_the_beginning_with_the_most_images_comes_first() -> None:
    known = ["/a/x/1.jpg", "/b/x/1.jpg", "/b/2.jpg", "/b/cafe\u0301.jpg", "/c/other.jpg"]
    files = [FoundFile("/new", name) for name in ("x/1.jpg", "2.jpg", "caf\u00e9.jpg", "none.jpg")]
    assert assign_addresses(files, "s", known, []).of_path == {
        "/new/x/1.jpg": "/b/x/1.jpg",
        "/new/2.jpg": "/b/2.jpg",
        "/new/caf\u00e9.jpg": "/b/cafe\u0301.jpg",
        "/new/none.jpg": "/b/none.jpg",
    }
