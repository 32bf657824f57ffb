import json
import os
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.storage.arrays.append_only_store import AppendOnlyStore, ArrayLayout, rename_rows
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.taxonomy.errors import StorageError

ROOT = Path(__file__).parents[3]
LAYOUT = ArrayLayout(
    "cubes", "cubes", "cubes.i4", shape=(2, 3, 4), dtype="<i4", header={"side": 2}, hint="Use another folder."
)


def cubes(*numbers: int) -> NDArray[Any]:
    return np.stack([np.arange(24, dtype="<i4").reshape(2, 3, 4) + 100 * number for number in numbers])


@pytest.mark.parametrize("check_all", [True, False])
def test_rows_of_any_shape_come_back_as_they_were(tmp_path: Path, check_all: bool) -> None:
    layout = replace(LAYOUT, check_all=check_all)
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, layout)
    assert store.append(["a", "b", "a"], cubes(1, 2, 3)) == 2
    assert store.append(["b", "c"], cubes(4, 5)) == 1
    for reader in (store, AppendOnlyStore(tmp_path, layout)):
        ids, everything = reader.snapshot()
        assert ids == ["a", "b", "c"]
        np.testing.assert_array_equal(everything, cubes(1, 2, 5))
        found, rows = reader.get(["c", "x"])
        assert found.tolist() == [True, False]
        np.testing.assert_array_equal(rows, np.stack([cubes(5)[0], np.zeros((2, 3, 4), dtype="<i4")]))


def test_rows_need_not_be_contiguous(tmp_path: Path) -> None:
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, LAYOUT)
    store.append(["a", "b"], cubes(1, 9, 2)[::2])
    np.testing.assert_array_equal(AppendOnlyStore(tmp_path, LAYOUT).snapshot()[1], cubes(1, 2))


@pytest.mark.parametrize("wrong", [cubes(1).astype("<i8"), cubes(1)[:, :1], cubes(1, 2)])
def test_rows_of_another_kind_are_refused(tmp_path: Path, wrong: NDArray[Any]) -> None:
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, LAYOUT)
    store.append(["before"], cubes(7))
    with pytest.raises(StorageError, match="cubes"):
        store.append(["a"], wrong)
    assert store.snapshot()[0] == ["before"]


def damage(file: Path, offset: int) -> None:
    with file.open("r+b") as data:
        data.seek(offset)
        data.write(b"\xee")


@pytest.mark.parametrize(
    ("check_all", "row", "noticed"), [(True, 0, True), (True, 2, True), (False, 0, False), (False, 2, True)]
)
def test_opening_reads_every_row_or_the_last_batch(tmp_path: Path, check_all: bool, row: int, noticed: bool) -> None:
    layout = replace(LAYOUT, check_all=check_all)
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, layout)
    for number, id in enumerate("abc"):
        store.append([id], cubes(number))
    damage(tmp_path / "cubes.i4", row * 96 + 1)
    again: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, layout)
    assert len(again) == (0 if noticed else 3)
    assert bool(list(tmp_path.glob("cubes.i4.damaged-*"))) is noticed
    assert again.append(["d"], cubes(3)) == 1
    assert AppendOnlyStore(tmp_path, layout).snapshot()[0] == (["d"] if noticed else ["a", "b", "c", "d"])


STEPS = 6  # of two appends: each waits for the rows, the index and the folder to be on the disk


def append_and_die(folder: str) -> None:
    """Append in one child process per step, and kill it in that step before the disk confirms the write."""
    wait = os.fsync
    for last in range(1, STEPS + 1):
        if (child := os.fork()) == 0:
            store: AppendOnlyStore[np.int32] = AppendOnlyStore(Path(folder) / str(last), LAYOUT)
            left = last

            def fsync(fd: Any) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                wait(fd)

            os.fsync = fsync
            store.append(["a", "b"], cubes(1, 2))
            store.append(["c"], cubes(3))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_at_any_step_of_an_append(tmp_path: Path) -> None:
    code = f"from tests.storage.arrays.test_append_only_store import append_and_die; append_and_die({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for step in range(1, STEPS + 1):
        store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path / str(step), LAYOUT)
        ids, rows = store.snapshot()
        assert ids == ([], ["a", "b"], ["a", "b"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"])[step - 1]
        np.testing.assert_array_equal(rows, cubes(1, 2, 3)[: len(ids)])
        store.append(["a", "b", "c", "d"], cubes(1, 2, 3, 4))
        np.testing.assert_array_equal(AppendOnlyStore(tmp_path / str(step), LAYOUT).snapshot()[1], cubes(1, 2, 3, 4))
        assert not list((tmp_path / str(step)).glob("*damaged*"))


def test_files_written_by_hand_are_read(tmp_path: Path) -> None:
    """The format on the disk stays readable, so that existing embeddings are kept."""
    vectors = np.arange(12, dtype="<f2").reshape(3, 4)

    def line(content: dict[str, object]) -> str:
        text = json.dumps(content, separators=(",", ":"))
        return f"{zlib.crc32(text.encode()):08x} {text}\n"

    (tmp_path / "vectors.f16").write_bytes(vectors.tobytes())
    (tmp_path / "index.jsonl").write_text(
        line({"format": 1, "dimension": 4})
        + line({"ids": ["a", "b"], "vectors": zlib.crc32(vectors[:2].tobytes())})
        + line({"ids": ["c"], "vectors": zlib.crc32(vectors[2:].tobytes())})
    )
    store = FolderEmbeddings(tmp_path, 4)
    found, read = store.get(["c", "a"])
    assert found.all()
    np.testing.assert_array_equal(read, [[8, 9, 10, 11], [0, 1, 2, 3]])
    assert store.append(["d"], np.ones((1, 4), dtype=np.float32)) == 1
    last = (tmp_path / "index.jsonl").read_text().splitlines()[-1]
    assert last == line({"ids": ["d"], "vectors": zlib.crc32(np.ones(4, dtype="<f2").tobytes())}).strip()


def test_rows_get_other_ids_and_stay_where_they_are(tmp_path: Path) -> None:
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, LAYOUT)
    store.append(["a", "b"], cubes(1, 2))
    store.append(["c", "d"], cubes(3, 4))
    before = (tmp_path / LAYOUT.file).stat()
    names = {"a": "x", "c": "c~", "d": "b", "missing": "y"}
    assert rename_rows(tmp_path, names) == 3
    assert rename_rows(tmp_path, names) == 0
    assert (tmp_path / LAYOUT.file).stat() == before
    for reader in (store, AppendOnlyStore(tmp_path, LAYOUT)):
        assert reader.snapshot()[0] == ["x", "b", "c~", "b~"]  # no row hides another one
        found, rows = reader.get(["a", "x", "b", "c"])
        assert found.tolist() == [False, True, True, False]
        np.testing.assert_array_equal(rows[[1, 2]], cubes(1, 2))
    assert store.append(["c"], cubes(9)) == 1
    np.testing.assert_array_equal(store.get(["c"])[1], cubes(9))
    assert rename_rows(tmp_path / "nothing", names) == 0


def test_a_damaged_index_is_moved_aside_by_a_renaming(tmp_path: Path) -> None:
    store: AppendOnlyStore[np.int32] = AppendOnlyStore(tmp_path, LAYOUT)
    store.append(["a"], cubes(1))
    index = tmp_path / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"a"', b'"b"'))
    assert rename_rows(tmp_path, {"a": "x"}) == 0
    assert not index.exists()
    assert len(list(tmp_path.glob("index.jsonl.damaged-*"))) == 1
    assert store.append(["a"], cubes(2)) == 1
