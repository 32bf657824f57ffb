"""Rows that are forgotten: their bytes are gone, the other rows stay, and nothing that is open serves them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.storage.arrays.append_only_store import AppendOnlyStore
from taxonomist.storage.arrays.forgetting import find_rows, forget_rows
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.prepared_images import PreparedImageStore

ROOT = Path(__file__).parents[3]
SIZE = 4


def vectors(*numbers: int) -> NDArray[np.float32]:
    return np.stack([np.arange(8, dtype=np.float32) + 10 * number for number in numbers])


def pixels(*numbers: int) -> NDArray[np.uint8]:
    return np.stack([np.full((SIZE, SIZE, 3), number, np.uint8) for number in numbers])


def test_only_the_rows_that_were_named_are_gone(tmp_path: Path) -> None:
    store = FolderEmbeddings(tmp_path, 8)
    store.append(["a", "b"], vectors(1, 2))
    store.append(["c"], vectors(3))
    assert find_rows(tmp_path, {"b", "x"}).rows == 1
    assert find_rows(tmp_path, {"b", "x"}).bytes == 16
    assert forget_rows(tmp_path, {"b", "x"}) == 1
    for reader in (store, FolderEmbeddings(tmp_path, 8)):  # a server that has it open sees it at once
        found, values = reader.get(["a", "b", "c"])
        assert found.tolist() == [True, False, True]
        np.testing.assert_array_equal(values, np.stack([vectors(1)[0], np.zeros(8), vectors(3)[0]]))
        assert "b" not in reader
        assert len(reader) == 2
        assert reader.snapshot()[0] == ["a", "", "c"]
    assert vectors(2).astype("<f2").tobytes() not in (tmp_path / "vectors.f16").read_bytes()
    assert b'"b"' not in (tmp_path / "index.jsonl").read_bytes()
    assert forget_rows(tmp_path, {"b"}) == 0


def test_what_is_in_memory_only_is_noticed_without_another_call(tmp_path: Path) -> None:
    store = FolderEmbeddings(tmp_path, 8)
    store.append(["a"], vectors(1))
    assert "a" in store
    forget_rows(tmp_path, {"a"})
    assert "a" not in store


def test_an_image_that_comes_back_gets_a_new_row(tmp_path: Path) -> None:
    store = FolderEmbeddings(tmp_path, 8)
    store.append(["a", "b"], vectors(1, 2))
    forget_rows(tmp_path, {"a", "b"})
    assert store.append(["b"], vectors(5)) == 1
    for reader in (store, FolderEmbeddings(tmp_path, 8)):
        np.testing.assert_array_equal(reader.get(["b"])[1], vectors(5))
        assert len(reader) == 1
    assert not list(tmp_path.glob("*damaged*"))


def test_prepared_images_are_overwritten_in_place(tmp_path: Path) -> None:
    store = PreparedImageStore(tmp_path, SIZE, keep_free=0)
    store.append(["a", "b"], pixels(7, 8))
    store.append(["c"], pixels(9))
    before = (tmp_path / "pictures.u8").stat().st_size
    assert forget_rows(tmp_path, {"b", "c"}) == 2
    assert (tmp_path / "pictures.u8").stat().st_size == before
    again = PreparedImageStore(tmp_path, SIZE, keep_free=0)
    ids, images = again.snapshot()
    assert ids == ["a", "", ""]
    np.testing.assert_array_equal(images, pixels(7, 0, 0))
    assert not list(tmp_path.glob("*damaged*"))


def test_augmented_views_go_with_their_image(tmp_path: Path) -> None:
    store = FolderEmbeddings(tmp_path, 8)
    store.append(["a", "a#1", "b#1", "aa"], vectors(1, 2, 3, 4))
    assert find_rows(tmp_path, {"a"}).rows == forget_rows(tmp_path, {"a"}) == 2
    assert store.snapshot()[0] == ["", "", "b#1", "aa"]


def test_files_that_were_moved_aside_go_too(tmp_path: Path) -> None:
    FolderEmbeddings(tmp_path, 8).append(["a"], vectors(1))
    with (tmp_path / "vectors.f16").open("r+b") as data:
        data.write(b"\xee")
    assert len(FolderEmbeddings(tmp_path, 8)) == 0
    assert list(tmp_path.glob("*.damaged-*"))
    forget_rows(tmp_path, {"x"})
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_damaged_index_is_deleted_and_the_store_starts_again(tmp_path: Path) -> None:
    FolderEmbeddings(tmp_path, 8).append(["a"], vectors(1))
    index = tmp_path / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"a"', b'"z"'))
    assert find_rows(tmp_path, {"a"}).rows == 0
    assert index.exists()  # to look changes nothing
    assert forget_rows(tmp_path, {"a"}) == 0
    assert not index.exists()
    assert FolderEmbeddings(tmp_path, 8).append(["b"], vectors(2)) == 1


@pytest.mark.parametrize("ids", [{"b"}, {"x"}])
def test_a_call_that_was_killed_is_finished_by_the_next(tmp_path: Path, ids: set[str]) -> None:
    code = f"from tests.storage.arrays.test_forgetting import forget_and_die; forget_and_die({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == STEPS
    gone = 0
    for folder in folders:
        store: Any = FolderEmbeddings(folder, 8)
        assert store.get(["a", "c"])[0].all()
        gone += not store.get(["b"])[0].any()
        if "b" in ids or gone:  # once the index has named the row, any call finishes the work
            forget_rows(folder, ids)
            assert vectors(2).astype("<f2").tobytes() not in (folder / "vectors.f16").read_bytes()
            assert store.snapshot()[0] == ["a", "", "c"]
        np.testing.assert_array_equal(FolderEmbeddings(folder, 8).get(["a", "c"])[1], vectors(1, 3))
        assert not list(folder.glob("*damaged*"))
    assert 0 < gone < STEPS


STEPS = 5  # two replacements of the index, each with its folder, and the rows between them


def forget_and_die(folder: str) -> None:
    """Forget in one child process per step, and kill it in that step before the disk confirms the write."""
    wait = os.fsync
    for last in range(1, STEPS + 1):
        own = Path(folder) / str(last)
        FolderEmbeddings(own, 8).append(["a", "b", "c"], vectors(1, 2, 3))
        if (child := os.fork()) == 0:
            left = last

            def fsync(fd: Any) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                wait(fd)

            os.fsync = fsync
            forget_rows(own, {"b"})
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_store_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    from tests.storage.arrays.test_append_only_store import LAYOUT, cubes

    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, LAYOUT)
    store.append(["a"], cubes(1))
    assert forget_rows(tmp_path, {"a"}) == 0
    assert "a" in store
