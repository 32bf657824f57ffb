import itertools
import logging
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.storage.embeddings import Embeddings, FolderEmbeddings
from taxonomist.storage.embeddings.blob import BlobEmbeddings
from taxonomist.taxonomy.errors import StorageError
from tests.storage.conftest import IN_EACH_STORE
from tests.storage.workers import vector

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., list[str]]


def vectors(*numbers: int) -> NDArray[Any]:
    return np.stack([vector(number) for number in numbers])


def half(*numbers: int) -> NDArray[Any]:
    return vectors(*numbers).astype(np.float16)


Open = Callable[..., Embeddings]


@pytest.fixture
def store(tmp_path: Path) -> FolderEmbeddings:
    return FolderEmbeddings(tmp_path, 64)


@pytest.fixture(params=IN_EACH_STORE)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store of this test as another process does, or, where it is in Azure, as another machine."""
    if request.param == "folder":
        return lambda dimension=64: FolderEmbeddings(tmp_path, dimension)
    account, container = request.getfixturevalue("blob_account"), uuid4().hex
    machines = (tmp_path / f"machine-{number}" for number in itertools.count())
    return lambda dimension=64: BlobEmbeddings(
        account, container, "embeddings/v1", next(machines), dimension, share_every_s=0
    )


def test_an_empty_store(open_store: Open) -> None:
    store = open_store()
    found, matrix = store.get(["a", "b"])
    assert (found.tolist(), matrix.shape, matrix.dtype) == ([False, False], (2, 64), np.dtype(np.float32))
    ids, all_of_them = store.snapshot()
    assert (ids, all_of_them.shape, all_of_them.dtype) == (list[str](), (0, 64), np.dtype(np.float16))
    assert len(store) == 0
    assert "a" not in store
    assert store.append([], np.zeros((0, 64), dtype=np.float32)) == 0
    assert open_store().get([])[1].shape == (0, 64)


def test_what_is_appended_comes_back_in_half_precision(open_store: Open) -> None:
    store = open_store()
    assert store.append(["a", "b", "a"], vectors(1, 2, 3)) == 2
    assert store.append(["c", "b"], vectors(4, 5)) == 1
    for reader in (store, open_store()):
        found, matrix = reader.get(["c", "x", "a", "a"])
        assert found.tolist() == [True, False, True, True]
        np.testing.assert_array_equal(matrix, np.stack([half(4)[0], np.zeros(64), half(1)[0], half(1)[0]]))
        ids, everything = reader.snapshot()
        assert sorted(ids) == ["a", "b", "c"]
        np.testing.assert_array_equal(everything[np.argsort(ids)], half(1, 2, 4))
        assert not everything.flags.writeable
        assert "b" in reader
        assert len(reader) == 3


def test_readers_see_what_others_append_and_keep_their_snapshot(open_store: Open) -> None:
    store, reader = open_store(), open_store()
    assert "a" not in reader
    store.append(["a"], vectors(1))
    assert "a" in reader
    _, before = reader.snapshot()
    store.append(["b"], vectors(2))
    assert reader.get(["b"])[0].all()
    np.testing.assert_array_equal(before, half(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_vectors_that_are_not_finite_are_refused(open_store: Open, value: float) -> None:
    store = open_store()
    bad = vectors(1, 2)
    bad[1, 5] = value
    with pytest.raises(StorageError, match="embedding of b is not finite"):
        store.append(["a", "b"], bad)
    assert len(store) == 0


def test_vectors_of_another_length_are_refused(open_store: Open) -> None:
    store = open_store()
    with pytest.raises(StorageError, match="shape"):
        store.append(["a"], np.zeros((1, 63), dtype=np.float32))
    assert len(store) == 0


def test_a_store_of_another_length_is_refused(store: FolderEmbeddings, tmp_path: Path) -> None:
    store.append(["a"], vectors(1))
    with pytest.raises(StorageError, match="folder of its own"):
        FolderEmbeddings(tmp_path, 32).get(["a"])
    assert len(store) == 1


def test_a_killed_writer_leaves_whole_batches_only(tmp_path: Path, start_worker: Start) -> None:
    process = start_worker("embed_for_ever", tmp_path)
    assert process.stdout is not None
    kept = [process.stdout.readline() for _ in range(40)]
    process.kill()
    kept += process.stdout.readlines()
    store = FolderEmbeddings(tmp_path, 64)
    numbers = [int(line) + step for line in kept if line.endswith("\n") for step in range(7)]
    found, matrix = store.get([f"i{number}" for number in numbers])
    assert found.all()
    np.testing.assert_array_equal(matrix, half(*numbers))
    assert len(store) % 7 == 0
    assert store.append(["after"], vectors(0)) == 1
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_a_tail_that_is_not_whole_is_dropped(store: FolderEmbeddings, tmp_path: Path, cut: int) -> None:
    """A kill during an append can leave these states."""
    store.append(["a"], vectors(1))
    whole = (tmp_path / "index.jsonl").stat().st_size
    store.append(["b" * 200], vectors(2))  # longer than what is written over it
    index = (tmp_path / "index.jsonl").read_bytes()
    (tmp_path / "index.jsonl").write_bytes(index[: max(whole, len(index) - cut)])
    again = FolderEmbeddings(tmp_path, 64)
    assert again.snapshot()[0] == ["a"]
    assert again.append(["c"], vectors(3)) == 1
    reread = FolderEmbeddings(tmp_path, 64)
    np.testing.assert_array_equal(reread.snapshot()[1], half(1, 3))
    assert reread.snapshot()[0] == ["a", "c"]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("index.jsonl", lambda path: flip(path, 12)),  # the header
        ("index.jsonl", lambda path: flip(path, 60)),  # a batch
        ("vectors.f16", lambda path: flip(path, 70)),
        ("vectors.f16", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("vectors.f16", lambda path: path.unlink()),
    ],
)
def test_damage_is_moved_aside_and_the_store_starts_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: Callable[[Path], object]
) -> None:
    store = FolderEmbeddings(tmp_path, 64)
    store.append(["a", "b"], vectors(1, 2))
    damage(tmp_path / file)
    with caplog.at_level(logging.WARNING):
        again = FolderEmbeddings(tmp_path, 64)
        assert not again.get(["a"])[0].any()
    assert "damaged" in caplog.text
    assert list(tmp_path.glob("index.jsonl.damaged-*"))
    assert again.append(["a"], vectors(1)) == 1
    # The store that stayed open uses the new files.
    assert store.append(["b"], vectors(2)) == 1
    np.testing.assert_array_equal(FolderEmbeddings(tmp_path, 64).get(["a", "b"])[1], half(1, 2))


def test_a_disk_that_is_full_keeps_what_it_has(tmp_path: Path, run_worker: Run) -> None:
    *kept, refused = run_worker("embed_until_full", tmp_path, 5_000)
    assert len(kept) > 10
    assert refused.startswith("refused: No room to write")
    store = FolderEmbeddings(tmp_path, 64)
    assert len(store) == len(kept)
    assert store.append(["after"], vectors(0)) == 1
    numbers = [int(line) for line in kept]
    np.testing.assert_array_equal(store.get([f"i{number}" for number in numbers])[1], half(*numbers))


def test_processes_and_threads_append_at_once(tmp_path: Path, start_worker: Start) -> None:
    processes = [start_worker("embed_some", tmp_path, first, first + 40) for first in (0, 20)]
    store = FolderEmbeddings(tmp_path, 64)
    new: list[int] = []

    def append(first: int) -> None:
        new.extend(store.append([f"i{n}"], vector(n)[None]) for n in range(first, first + 20))

    threads = [threading.Thread(target=append, args=(first,)) for first in (50, 55)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new += [int(process.communicate()[0]) for process in processes]
    assert sum(new) == len(store) == 75
    np.testing.assert_array_equal(store.get([f"i{n}" for n in range(75)])[1], half(*range(75)))
    np.testing.assert_array_equal(FolderEmbeddings(tmp_path, 64).get([f"i{n}" for n in range(75)])[1], half(*range(75)))
