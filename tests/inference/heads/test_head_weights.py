"""The file of a head: its numbers, its format, and files that are not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.errors import DamagedError

HEAD = HeadWeights(
    mean=np.array([1, 0], np.float32),
    scale=np.array([2, 1], np.float32),
    weight1=np.array([[1, 0], [0, -1]], np.float32),
    bias1=np.array([0, 1], np.float32),
    weight2=np.array([[1, 0], [0, 1], [1, 1]], np.float32),
    bias2=np.array([0, 0, -1], np.float32),
    controls=(("colour", 2), ("shape", 1)),
)


def test_logits_worked_out_by_hand() -> None:
    # (3 - 1) / 2 = 1 and (4 - 0) / 1 = 4; the hidden layer is max(0, [1, 1 - 4]) = [1, 0].
    logits = HEAD.logits(np.array([[3, 4]], np.float32))
    np.testing.assert_array_equal(logits["colour"], [[1, 0]])
    np.testing.assert_array_equal(logits["shape"], [[0]])


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(20)]
    for file in files:
        HEAD.save(file)
    assert len({file.read_bytes() for file in files}) == 1


def write(path: Path, **metadata: str) -> Path:
    HEAD.save(path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    save_file(arrays, path, metadata=metadata)
    return path


def test_a_file_of_0_1_0_is_read(tmp_path: Path) -> None:
    loaded = HeadWeights.load(write(tmp_path / "head.safetensors", controls='[["colour", 2], ["shape", 1]]'))
    np.testing.assert_array_equal(loaded.weight2, HEAD.weight2)
    assert loaded.controls == HEAD.controls


@pytest.mark.parametrize("name", ["mean", "scale", "weight1", "bias1", "weight2", "bias2"])
@pytest.mark.parametrize("axis", [0, None])
def test_an_array_of_another_shape_is_refused(tmp_path: Path, name: str, axis: int | None) -> None:
    array = getattr(HEAD, name)
    wrong = array[None] if axis is None else array[:-1]
    replace(HEAD, **{name: wrong}).save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="do not fit together"):
        HeadWeights.load(tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('{"format": 2, "controls": []}', "formats up to 1"),
        ('{"format": "new", "controls": []}', "not a readable head"),
        ("[]", "not a readable head"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        HeadWeights.load(write(tmp_path / "head.safetensors", head=head))
