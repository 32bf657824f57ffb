"""The folders of a manifest's images: several, moved, with links, and with names that look like addresses."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError, ImageNotFoundError, TaxonomistError
from tests.backend.labelling.manifests.small_manifests import ROWS, follow, state, write


def test_several_folders(services: Services, tmp_path: Path) -> None:
    for folder, file in (("one", "a.jpg"), ("two", "b.jpg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(folder.encode())
    (tmp_path / "m.csv").write_text("file,level1\na.jpg,x\nb.jpg,y\n")
    result = follow(services, tmp_path / "m.csv", images=[tmp_path / "one", tmp_path / "two"])
    assert result.accepted == 2
    assert services.images("p").read(str(tmp_path / "two" / "b.jpg")) == b"two"
    assert follow(services, tmp_path / "m.csv").changes["new images"] == 0  # the project knows its folders


@pytest.mark.parametrize("by_option", [True, False])
def test_a_moved_folder_keeps_its_images(services: Services, tmp_path: Path, by_option: bool) -> None:
    """Their ids stay, and with them embeddings and parts; new files of the new place belong to them."""
    old, new = tmp_path / "old", tmp_path / "new"
    follow(services, write(old, ROWS))
    ids = sorted(document.id for document in services.catalog.documents("p"))
    shutil.move(old, new)
    result = follow(services, new / "m.csv", images=[new / "images"] if by_option else None)
    assert not any(result.changes.values())
    assert sorted(document.id for document in services.catalog.documents("p")) == ids
    assert all(services.images("p").read(doc.projects["p"].uri) for doc in services.catalog.documents("p"))
    follow(services, write(new, ROWS | {"20.jpg": ("Bath", "Sink")}))
    assert services.images("p").read(str(old / "images" / "20.jpg")) == b"image new 20.jpg"


def test_a_folder_that_moved_to_a_system_with_other_names(services: Services, tmp_path: Path) -> None:
    """The names were decomposed there (macOS) and are composed now."""
    old, new = tmp_path / "old", tmp_path / "new"
    names = [unicodedata.normalize("NFD", f"Küche/{number}ä.jpg") for number in range(4)]
    follow(services, write(old, dict.fromkeys(names, ("x", ""))))
    ids = sorted(document.id for document in services.catalog.documents("p"))
    manifest = write(new, {unicodedata.normalize("NFC", name): ("x", "") for name in names})
    for name in names:
        shutil.copy(old / "images" / name, new / "images" / unicodedata.normalize("NFC", name))
    assert not any(follow(services, manifest).changes.values())
    assert sorted(document.id for document in services.catalog.documents("p")) == ids
    shutil.rmtree(old)
    for document in services.catalog.documents("p"):
        assert services.images("p").read(document.projects["p"].uri).startswith(b"image old K")


@pytest.mark.parametrize("linked", ["folder", "subfolder", "files", "many files"])
def test_linked_images_are_read(services: Services, tmp_path: Path, linked: str) -> None:
    """What the import accepts, the reader reads (DVC, git-annex); other links out of the folder stay refused."""
    store, catalogue = tmp_path / "store" / "objects", tmp_path / "catalogue"
    names = [f"{number:03d}.jpg" for number in range(100)]
    for number, name in enumerate(names):
        place = store / f"{number:02d}" / "key" if linked == "many files" else store
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(name.encode())
    images = catalogue / "images"
    images.parent.mkdir()
    if linked == "folder":
        images.symlink_to(store)
    else:
        images.mkdir()
    if linked == "subfolder":
        (images / "sub").symlink_to(store)
    if "files" in linked:
        for target in sorted(store.rglob("*.jpg")):
            (images / target.name).symlink_to(os.path.relpath(target, images))
    prefix = "sub/" if linked == "subfolder" else ""
    (catalogue / "m.csv").write_text("file,level1\n" + "".join(f"{prefix}{name},x\n" for name in names))
    assert follow(services, catalogue / "m.csv").accepted == 100
    reader = services.images("p")
    for document in services.catalog.documents("p"):
        uri = document.projects["p"].uri
        assert reader.read(uri) == uri.rpartition("/")[2].encode()
    (tmp_path / "secret").write_bytes(b"secret")
    if linked != "folder":
        (images / "out.jpg").symlink_to(tmp_path / "secret")
        with pytest.raises(ImageForbiddenError):
            reader.read(str(images / "out.jpg"))
    for escape in (f"{images}/../../secret", f"{store}/../../secret"):
        with pytest.raises(TaxonomistError):
            reader.read(escape)
    assert not any(follow(services, catalogue / "m.csv").changes.values())


def test_links_to_everywhere_are_refused(services: Services, tmp_path: Path) -> None:
    """More folders than can be listed, whose common folder holds the images themselves."""
    images = tmp_path / "catalogue"
    images.mkdir()
    rows = ["file,level1"]
    for number in range(70):
        target = tmp_path / f"place-{number}" / "a.jpg"
        target.parent.mkdir()
        target.write_bytes(b"")
        (images / f"{number}.jpg").symlink_to(target)
        rows.append(f"{number}.jpg,x")
    (images / "m.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError, match=r"links to more than 64 folders below .*--images"):
        follow(services, images / "m.csv")
    assert state(services.settings.home) == {}


def test_file_names_that_look_like_addresses(services: Services, tmp_path: Path) -> None:
    names = ["photo:1.jpg", "a#1.jpg", "b?x=1.jpg", "c%20d.jpg", "e&f.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "m.csv").write_text("file,level1\n" + "".join(f"{name},x\n" for name in names))
    assert follow(services, tmp_path / "m.csv").images == 5
    for name in names:
        assert services.images("p").read(str(tmp_path / name)) == name.encode()


def test_a_missing_image_is_missing(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    with pytest.raises(ImageNotFoundError, match="If the folder moved, import its manifest again with --images"):
        services.images("p").read(str(catalogue / "images" / "none.jpg"))


def test_files_with_one_name_in_a_moved_folder_stay_apart(services: Services, tmp_path: Path) -> None:
    """What `a.jpg` was read as says nothing about `sub/a.jpg`."""
    old, new = tmp_path / "old", tmp_path / "new"
    names = ["a.jpg", "sub/a.jpg", "sub/b.jpg", *(f"{number}.jpg" for number in range(5))]
    follow(services, write(old, dict.fromkeys(names, ("x", ""))))
    before = {doc.id: services.images("p").read(doc.projects["p"].uri) for doc in services.catalog.documents("p")}
    shutil.move(old, new)
    assert not any(follow(services, new / "m.csv").changes.values())
    assert {
        doc.id: services.images("p").read(doc.projects["p"].uri) for doc in services.catalog.documents("p")
    } == before
    assert len(services.projects.get("p").image_folders[0].folders) <= 2


def test_a_new_file_with_the_name_of_one_in_a_moved_folder(services: Services, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    follow(services, write(old, {"sub/a.jpg": ("B", "")}))
    shutil.move(old, new)
    result = follow(services, write(new, {"a.jpg": ("A", ""), "sub/a.jpg": ("B", "")}))
    assert (result.entries, result.images) == (2, 2)
    read = {
        services.images("p").read(document.projects["p"].uri): [*document.projects["p"].accepted.values()]
        for document in services.catalog.documents("p")
    }
    assert read == {b"image new a.jpg": [[["A"]]], b"image old sub/a.jpg": [[["B"]]]}
