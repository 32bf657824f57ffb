"""The first run of an added backbone is bounded, and finds what a graph does not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.added.trial import Trial, try_backbone

SIZE = 32


def _write(path: Path, nodes: list[NodeProto], dimension: int) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT), *nodes],
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dimension])],
        [numpy_helper.from_array(np.array([1, 100_000_000], np.int64), "large")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def _means(name: str = "embedding") -> NodeProto:
    return helper.make_node("ReduceMean", ["float"], [name], axes=[1, 2], keepdims=0)


def test_it_measures_both(tmp_path: Path) -> None:
    path = _write(tmp_path / "backbone.onnx", [_means()], 3)
    trial = try_backbone(path, path)
    assert (trial.size, trial.dimension, trial.bytes) == (SIZE, 3, path.stat().st_size)
    assert trial.ms > 0
    assert trial.champion_ms is not None
    assert trial.champion_ms > 0
    assert try_backbone(path).champion_ms is None


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        pytest.param(
            [
                _means("means"),
                helper.make_node("ReduceMean", ["means"], ["batch"], axes=[0], keepdims=1),
                helper.make_node("Sub", ["means", "batch"], ["embedding"]),
            ],
            "depends on the other images",
            id="batch statistics",
        ),
        pytest.param(
            [
                _means("means"),
                helper.make_node("Neg", ["means"], ["negative"]),
                helper.make_node("Sqrt", ["negative"], ["embedding"]),
            ],
            "not finite",
            id="not finite",
        ),
        pytest.param(
            [
                helper.make_node("ReduceMean", ["float"], ["one"], axes=[1, 2, 3], keepdims=0),
                helper.make_node("Unsqueeze", ["one", "axis"], ["column"]),
                helper.make_node("Constant", [], ["axis"], value_ints=[1]),
                helper.make_node("Expand", ["column", "large"], ["wide"]),
                helper.make_node("ReduceMean", ["wide"], ["embedding"], axes=[1], keepdims=1),
            ],
            "more than 4 GB of memory",
            id="memory",
        ),
    ],
)
def test_what_a_graph_does_not_show(tmp_path: Path, nodes: list[NodeProto], message: str) -> None:
    nodes.sort(key=lambda node: node.op_type != "Constant")  # a graph is sorted
    with pytest.raises(ConfigError, match=message):
        try_backbone(_write(tmp_path / "backbone.onnx", nodes, 1 if "memory" in message else 3))


def test_more_than_five_times_the_champions_time_is_refused() -> None:
    Trial(32, 8, 100, 5.0, 1.0).check_time(allow_slow=False)
    Trial(32, 8, 100, 99.0, None).check_time(allow_slow=False)
    slow = Trial(32, 8, 100, 5.2, 1.0)
    with pytest.raises(ConfigError, match=r"5\.2 ms, 5\.2 times the champion's 1\.0 ms.*--allow-slow"):
        slow.check_time(allow_slow=False)
    slow.check_time(allow_slow=True)
