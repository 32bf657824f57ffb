import shutil
from pathlib import Path

import numpy as np
import pytest

from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import StorageError

SIZE = 8


def pictures(*numbers: int) -> np.ndarray:
    return np.stack(
        [np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for number in numbers]
    )


@pytest.fixture
def store(tmp_path: Path) -> PreparedImageStore:
    return PreparedImageStore(tmp_path / "8", SIZE)


def test_pictures_come_back_mapped_and_read_only(store: PreparedImageStore, tmp_path: Path) -> None:
    assert store.snapshot()[1].shape == (0, SIZE, SIZE, 3)
    assert store.append(["a", "b"], pictures(1, 2)) == 2
    ids, before = store.snapshot()
    assert store.append(["b", "c"], pictures(9, 3)) == 1
    reader = PreparedImageStore(tmp_path / "8", SIZE)
    ids, everything = reader.snapshot()
    assert (ids, len(reader), "c" in reader, reader.size) == (["a", "b", "c"], 3, True, SIZE)
    assert isinstance(everything, np.memmap)
    assert not everything.flags.writeable
    np.testing.assert_array_equal(everything, pictures(1, 2, 3))
    np.testing.assert_array_equal(before, pictures(1, 2))
    np.testing.assert_array_equal(reader.get(["c", "a"])[1], pictures(3, 1))


def test_pictures_of_another_size_or_type_are_refused(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a"], pictures(1))
    with pytest.raises(StorageError, match="shape"):
        store.append(["b"], pictures(2)[:, :4])
    with pytest.raises(StorageError, match="float32"):
        store.append(["b"], pictures(2).astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="folder of its own"):
        PreparedImageStore(tmp_path / "8", 16).snapshot()
    assert store.snapshot()[0] == ["a"]


def test_the_disk_is_never_filled(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a"], pictures(1))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(StorageError, match="Make room"):
        PreparedImageStore(tmp_path / "8", SIZE, keep_free=2 * free).append(["b"], pictures(2))
    assert PreparedImageStore(tmp_path / "8", SIZE).snapshot()[0] == ["a"]


def test_a_file_that_was_cut_off_is_moved_aside(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a", "b"], pictures(1, 2))
    file = tmp_path / "8" / "pictures.u8"
    file.write_bytes(file.read_bytes()[:-1])
    again = PreparedImageStore(tmp_path / "8", SIZE)
    assert len(again) == 0
    assert len(list(file.parent.glob("*damaged*"))) == 2
    assert again.append(["a"], pictures(1)) == 1
    np.testing.assert_array_equal(PreparedImageStore(tmp_path / "8", SIZE).snapshot()[1], pictures(1))
