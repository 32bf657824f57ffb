"""What a home has of an image besides databases: found and forgotten, and nothing of other images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from taxonomist.storage.catalog import image_id
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.home.image_files import find_image_files, forget_image_files
from taxonomist.storage.images.cache import CachedImages
from taxonomist.storage.prepared_images import PreparedImageStore

A, B = "https://photos.example.com/erika.jpg", "https://photos.example.com/other.jpg"
UPLOAD = "http://label-studio:8080/data/upload/4/erika.jpg"


class Source:
    def read(self, uri: str) -> bytes:
        return f"the bytes of {uri}".encode()


def make(home: Path) -> None:
    for label_studio in ("one", "two"):
        cache = CachedImages(Source(), home / "images" / label_studio, 10**6)
        for uri in (A, B, UPLOAD):
            cache.read(uri)
    ids = [image_id(uri) for uri in (A, B, UPLOAD)]
    vectors = np.arange(24, dtype=np.float32).reshape(3, 8)
    FolderEmbeddings(home / "embeddings" / "v1", 8).append(ids, vectors)
    FolderEmbeddings(home / "embeddings" / "v2", 4).append(ids[:2], vectors[:2, :4])
    FolderEmbeddings(home / "azure" / "acc-1" / "embeddings" / "models" / "v1", 8).append(ids, vectors)
    pixels = np.full((3, 4, 4, 3), 7, np.uint8)
    PreparedImageStore(home / "pictures" / "4", 4, keep_free=0).append(ids, pixels)
    (home / "pictures" / "4" / "failures.csv").write_text(f"id,uri,reason\n{ids[0]},{A},broken\n{ids[1]},{B},gone\n")
    own = home.parent / "own-folder"
    PreparedImageStore(own, 4, keep_free=0).append(ids, pixels)
    (home / "pretraining").mkdir()
    (home / "pretraining" / "run.json").write_text(json.dumps({"prepared": str(own)}))
    probe = [{"id": id, "label": "x", "group": None} for id in ids]
    (home / "pretraining" / "images.json").write_text(
        json.dumps({"ids": ids, "groups": ["p", "q", "r"], "probe": probe})
    )


def everything(*folders: Path) -> bytes:
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\n".join(path.name.encode() + path.read_bytes() for path in files)


def test_everything_of_an_image_is_found_and_forgotten(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make(home)
    ids = {image_id(A), image_id(UPLOAD)}
    found = find_image_files(home, ids)
    assert (found.embeddings.rows, found.embeddings.bytes) == (5, 4 * 16 + 8)
    assert (found.prepared.rows, found.prepared.bytes) == (4, 4 * 48)
    assert found.cached.rows == 4
    for _ in range(2):  # it can be repeated
        forget_image_files(home, ids)
        left = everything(home, tmp_path / "own-folder")
        assert b"erika" not in left
        assert b"other.jpg" in left
    assert vars(find_image_files(home, ids))["embeddings"].rows == 0
    assert find_image_files(home, {image_id(B)}).embeddings.rows == 3
    run = json.loads((home / "pretraining" / "images.json").read_text())
    assert run["ids"] == ["", image_id(B), ""]  # checkpoints count positions
    assert run["groups"] == ["p", "q", "r"]
    assert [image["id"] for image in run["probe"]] == [image_id(B)]


def test_to_look_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path / "home")
    before = everything(tmp_path)
    find_image_files(tmp_path / "home", {image_id(A)})
    assert everything(tmp_path) == before


def test_a_home_without_any_of_it(tmp_path: Path) -> None:
    forget_image_files(tmp_path, {image_id(A)})
    assert find_image_files(tmp_path, {image_id(A)}).cached.rows == 0
