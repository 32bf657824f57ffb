import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.storage.files import lacks_room
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.taxonomy.errors import StorageError

SIZE = 8


def images(*numbers: int) -> NDArray[Any]:
    return np.stack(
        [np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for number in numbers]
    )


@pytest.fixture
def store(tmp_path: Path) -> PreparedImageStore:
    return PreparedImageStore(tmp_path / "8", SIZE)


def test_images_come_back_mapped_and_read_only(store: PreparedImageStore, tmp_path: Path) -> None:
    assert store.snapshot()[1].shape == (0, SIZE, SIZE, 3)
    assert store.append(["a", "b"], images(1, 2)) == 2
    ids, before = store.snapshot()
    assert store.append(["b", "c"], images(9, 3)) == 1
    reader = PreparedImageStore(tmp_path / "8", SIZE)
    ids, everything = reader.snapshot()
    assert (ids, len(reader), "c" in reader, reader.size) == (["a", "b", "c"], 3, True, SIZE)
    assert isinstance(everything, np.memmap)
    assert not everything.flags.writeable
    np.testing.assert_array_equal(everything, images(1, 2, 3))
    np.testing.assert_array_equal(before, images(1, 2))
    np.testing.assert_array_equal(reader.get(["c", "a"])[1], images(3, 1))


def test_images_of_another_size_or_type_are_refused(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a"], images(1))
    with pytest.raises(StorageError, match="shape"):
        store.append(["b"], images(2)[:, :4])
    with pytest.raises(StorageError, match="float32"):
        store.append(["b"], images(2).astype(np.float32))
    with pytest.raises(StorageError, match="folder of its own"):
        PreparedImageStore(tmp_path / "8", 16).snapshot()
    assert store.snapshot()[0] == ["a"]


def test_the_disk_is_never_filled(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a"], images(1))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(StorageError, match="Make room") as raised:
        PreparedImageStore(tmp_path / "8", SIZE, keep_free=2 * free).append(["b"], images(2))
    assert lacks_room(raised.value)  # so that a job waits
    assert PreparedImageStore(tmp_path / "8", SIZE).snapshot()[0] == ["a"]


def test_a_file_that_was_cut_off_is_moved_aside(store: PreparedImageStore, tmp_path: Path) -> None:
    store.append(["a", "b"], images(1, 2))
    file = tmp_path / "8" / "pictures.u8"
    file.write_bytes(file.read_bytes()[:-1])
    again = PreparedImageStore(tmp_path / "8", SIZE)
    assert len(again) == 0
    assert len(list(file.parent.glob("*damaged*"))) == 2
    assert again.append(["a"], images(1)) == 1
    np.testing.assert_array_equal(PreparedImageStore(tmp_path / "8", SIZE).snapshot()[1], images(1))


def test_files_written_by_hand_are_read(tmp_path: Path) -> None:
    """The format on the disk stays readable, so that images that are already prepared are kept."""
    stored = images(1, 2)
    lines = [{"format": 1, "size": SIZE}, {"ids": ["a", "b"], "pictures": zlib.crc32(stored.tobytes())}]
    texts = [json.dumps(line, separators=(",", ":")) for line in lines]
    (tmp_path / "pictures.u8").write_bytes(stored.tobytes())
    (tmp_path / "index.jsonl").write_text("".join(f"{zlib.crc32(text.encode()):08x} {text}\n" for text in texts))
    ids, read = PreparedImageStore(tmp_path, SIZE).snapshot()
    assert ids == ["a", "b"]
    np.testing.assert_array_equal(read, stored)
