"""Small ONNX files that a person might add as a backbone, sound and faulty ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIZE = 32
Dimension = int | str | None


def average_pool() -> list[NodeProto]:
    """Return nodes from `images` (n, 3, 32, 32) to `embedding` (n, 48): the mean colour of each cell of a grid."""
    return [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "shape"], ["embedding"]),
    ]


def write_network(
    path: Path,
    *,
    nodes: Sequence[NodeProto] | None = None,
    takes: Sequence[Dimension] = ("n", 3, SIZE, SIZE),
    dtype: int = TensorProto.FLOAT,
    gives: Sequence[Dimension] = ("n", 48),
    gives_dtype: int = TensorProto.FLOAT,
    domains: Sequence[str] = ("",),
) -> Path:
    """Write a network of these nodes and return its file; without nodes it averages the pixels of each cell."""
    shape = numpy_helper.from_array(np.array([-1, 48], np.int64), "shape")
    graph = helper.make_graph(
        list(nodes or average_pool()),
        "network",
        [helper.make_tensor_value_info("images", dtype, takes)],
        [helper.make_tensor_value_info("embedding", gives_dtype, gives)],
        [shape],
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def write_network_with_external_data(path: Path) -> Path:
    """Write a network whose weights are in a file beside it."""
    model = onnx.load(write_network(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path
