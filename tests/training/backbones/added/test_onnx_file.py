"""A user's ONNX file becomes a backbone, or the error names what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from taxonomist.inference.embedder import Embedder
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.added import onnx_file
from taxonomist.training.backbones.added.onnx_file import licence_of, read_onnx
from tests.training.backbones.added.graphs import SIZE, average_pool, write_network, write_network_with_external_data
from tests.training.conftest import random_images

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)


def test_a_file_of_normalised_colours_embeds_pixels(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    onnx.save(read_onnx(write_network(tmp_path / "file.onnx"), None, MEAN, STD), str(path))
    images = random_images(3, SIZE)
    normalised = (images / 255 - MEAN) / STD
    cells = normalised.reshape(3, 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(3, 48)
    embedder = Embedder(path, SIZE)
    assert embedder.dimension == 48
    np.testing.assert_allclose(embedder.embed(images), cells, rtol=1e-4, atol=1e-5)


def test_a_file_of_pixels_stays_as_it_is_and_gets_its_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["embedding"], axes=[1, 2], keepdims=0),
    ]
    takes = ("n", "side", "side", 3)
    file = write_network(tmp_path / "file.onnx", nodes=nodes, takes=takes, dtype=TensorProto.UINT8, gives=("n", None))
    with pytest.raises(ConfigError, match=r"takes images of any size. Say which by --size"):
        read_onnx(file, None, MEAN, STD)
    onnx.save(read_onnx(file, 40, MEAN, STD), str(tmp_path / "backbone.onnx"))
    images = random_images(2, 40)
    embedder = Embedder(tmp_path / "backbone.onnx", 40)
    np.testing.assert_allclose(embedder.embed(images), images.mean(axis=(1, 2)), rtol=1e-5)


def test_the_licence_that_the_file_names(tmp_path: Path) -> None:
    model = onnx.load(write_network(tmp_path / "file.onnx"))
    assert licence_of(model) == ""
    helper.set_model_props(model, {"License": "MIT"})
    assert licence_of(model) == "MIT"


def _network(**changes: object) -> Callable[[Path], Path]:
    return lambda path: write_network(path, **changes)  # type: ignore[arg-type]


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def _pickle(path: Path) -> Path:
    torch.save({"weights": torch.zeros(3)}, path)
    return path


def _loop() -> list[onnx.NodeProto]:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])],
    )
    return [*average_pool(), helper.make_node("Loop", ["", ""], [], body=body)]


def _custom_in_a_branch() -> list[onnx.NodeProto]:
    """Return nodes with an operator of another domain, in a branch of an `If`."""
    custom = helper.make_node("Shell", ["cells"], ["out"], domain="com.example")
    branch = helper.make_graph([custom], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
    return [*average_pool(), helper.make_node("If", ["yes"], ["ignored"], then_branch=branch, else_branch=branch)]


FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "There is no file"),
    "empty": (_bytes(b""), "has no ONNX graph"),
    "noise": (_bytes(b"\x13\x37 something else"), "not an ONNX file"),
    "pickle": (_pickle, "a file of PyTorch or a pickle, which may run code"),
    "external data": (write_network_with_external_data, "keeps weights in another file"),
    "custom operator": (
        _network(nodes=_custom_in_a_branch(), domains=("", "com.example")),
        "Shell is an operator of com.example",
    ),
    "loop": (_network(nodes=_loop()), "Loop may take any time"),
    "channels": (_network(takes=("n", 4, 32, 32)), r"its input images is float \(\?, 4, 32, 32\)"),
    "doubles": (_network(dtype=TensorProto.DOUBLE), "its input images is double"),
    "one image": (_network(takes=(1, 3, 32, 32)), "takes exactly 1 images at once"),
    "not square": (_network(takes=("n", 3, 32, 64)), r"its images are \(\?, 3, 32, 64\), not a square"),
    "tiny": (_network(takes=("n", 3, 8, 8)), "its images have 8 pixels"),
    "a map": (_network(gives=("n", 3, 4, 4)), r"its output embedding is float \(\?, 3, 4, 4\)"),
    "integers": (_network(gives_dtype=TensorProto.INT64), "its output embedding is int64"),
    "not connected": (_network(nodes=average_pool()[:1]), "its graph is not valid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_names_what_is_wrong(tmp_path: Path, fault: str) -> None:
    write, message = FAULTS[fault]
    with pytest.raises(ConfigError, match=message):
        read_onnx(write(tmp_path / "file.onnx"), None, MEAN, STD)


def test_another_size_than_the_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not of 64 pixels"):
        read_onnx(write_network(tmp_path / "file.onnx"), 64, MEAN, STD)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="more than"):
        read_onnx(write_network(tmp_path / "file.onnx"), None, MEAN, STD)
