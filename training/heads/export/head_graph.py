"""A head as an ONNX graph: embeddings in, calibrated probabilities of the nodes of each control out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.ensemble_weights import EnsembleHead, learned_nodes
from taxonomist.inference.heads.head import Head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.tree import Tree

INPUT_NAME = "embeddings"
_OPSET, _IR = 18, 9  # onnxruntime 1.18 reads them


def head_graph(head: Head, trees: Mapping[str, Tree], temperatures: Mapping[str, float]) -> onnx.ModelProto:
    """Return the graph of a head: float32 (n, d) to one output (n, nodes) for each control, in the order of the head.

    The outputs are `probabilities_0`, `probabilities_1` and so on: P(path) of each node, calibrated. Raises TypeError
    for a head of an unknown kind.
    """
    graph = _Graph()
    match head:
        case HeadWeights():
            outputs = _weights(graph, head, trees, temperatures)
        case DiscriminantHead():
            outputs = list(_discriminants(graph, head).values())
        case EnsembleHead():
            outputs = _ensemble(graph, head, trees)
        case _:
            raise TypeError(f"a head of an unknown kind: {type(head).__name__}")
    return graph.model(head.dimension, outputs)


def _weights(
    graph: _Graph, head: HeadWeights, trees: Mapping[str, Tree], temperatures: Mapping[str, float]
) -> list[tuple[str, int]]:
    """Add the head of two layers; return the name and the number of nodes of each output."""
    x = graph.add("Div", graph.add("Sub", INPUT_NAME, graph.constant(head.mean)), graph.constant(head.scale))
    hidden = graph.add("Relu", graph.add("Gemm", x, graph.constant(head.weight1), graph.constant(head.bias1), transB=1))
    logits = graph.add("Gemm", hidden, graph.constant(head.weight2), graph.constant(head.bias2), transB=1)
    outputs, start = [], 0
    for control, nodes in head.controls:
        own = graph.add("Gather", logits, graph.constant(np.arange(start, start + nodes)), axis=1)
        own = graph.add("Div", own, graph.constant(np.float32(temperatures.get(control, 1.0))))
        outputs.append((graph.add("Exp", _path_log_probabilities(graph, own, trees[control])), nodes))
        start += nodes
    return outputs


def _path_log_probabilities(graph: _Graph, logits: str, tree: Tree) -> str:
    """Add what `path_log_probabilities` computes: a softmax for each group of siblings, and sums along the paths."""
    group_of = np.zeros(len(tree), np.int64)
    for number, group in enumerate(tree.groups):
        group_of[group] = number
    groups = len(tree.groups)
    highest = graph.scatter(logits, group_of, groups, "max", fill=float(np.finfo(np.float32).min))
    shifted = graph.add("Sub", logits, graph.add("Gather", highest, graph.constant(group_of), axis=1))
    sums = graph.scatter(graph.add("Exp", shifted), group_of, groups, "add")
    log_sums = graph.add("Gather", graph.add("Log", sums), graph.constant(group_of), axis=1)
    given_parent = graph.add("Sub", shifted, log_sums)
    padded = graph.add("Pad", given_parent, graph.constant(np.array([0, 0, 0, 1], np.int64)))  # a zero above level 1
    total, above = given_parent, tree.parents.astype(np.int64)
    for _ in range(tree.depth - 1):
        at = np.where(above < 0, len(tree), above)
        total = graph.add("Add", total, graph.add("Gather", padded, graph.constant(at), axis=1))
        above = np.where(above < 0, -1, tree.parents[above])
    return total


def _discriminants(graph: _Graph, head: DiscriminantHead) -> dict[str, tuple[str, int]]:
    """Add the discriminants; return by control the name of the output and the number of its nodes."""
    roots = graph.add("Mul", graph.add("Sign", INPUT_NAME), graph.add("Sqrt", graph.add("Abs", INPUT_NAME)))
    plain = inside = _scaled(graph, roots)
    if space := next((found.space for found in head.discriminants.values() if found.space), None):
        centred = graph.add("Sub", plain, graph.constant(space.mean))
        inside = _scaled(graph, graph.add("MatMul", centred, graph.constant(space.matrix)))
    return {
        control: _discriminant(graph, found, inside if found.space else plain)
        for control, found in head.discriminants.items()
    }


def _scaled(graph: _Graph, vectors: str) -> str:
    """Add vectors scaled to length 1."""
    lengths = graph.add("ReduceL2", vectors, graph.constant(np.array([1], np.int64)), keepdims=1)
    return graph.add("Div", vectors, graph.add("Max", lengths, graph.constant(np.finfo(np.float32).tiny)))


def _discriminant(graph: _Graph, found: Discriminant, features: str) -> tuple[str, int]:
    """Add the discriminant of one control; return the name of its output and the number of its nodes."""
    scores = graph.add("Gemm", features, graph.constant(found.weight), graph.constant(found.bias), transB=1)
    classes, nodes = [], []
    for number, node in enumerate(found.nodes.tolist()):
        while node >= 0:  # each class counts for its node and for all nodes above it
            classes.append(number)
            nodes.append(node)
            node = int(found.parents[node])
    shares = graph.add("Gather", graph.add("Softmax", scores, axis=1), graph.constant(np.array(classes)), axis=1)
    count = len(found.parents)
    return graph.scatter(shares, np.array(nodes), count, "add"), count


def _ensemble(graph: _Graph, head: EnsembleHead, trees: Mapping[str, Tree]) -> list[tuple[str, int]]:
    """Add both heads and their means; return the name and the number of nodes of each output."""
    found = _weights(graph, head.layers, trees, {})
    layers = {control: output for (control, _), (output, _) in zip(head.layers.controls, found, strict=True)}
    outputs = []
    discriminants = _discriminants(graph, head.discriminant)
    for control, discriminant in head.discriminant.discriminants.items():
        output, nodes = discriminants[control]
        half = graph.constant(learned_nodes(discriminant) / 2)
        outputs.append((graph.add("Mul", graph.add("Add", layers[control], output), half), nodes))
    return outputs


class _Graph:
    """Collects nodes and constants; values are named by numbers, so that names of controls cannot collide."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike) -> str:
        """Return the name of a constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def scatter(self, values: str, columns: npt.NDArray[np.int64], width: int, reduction: str, fill: float = 0) -> str:
        """Combine the columns of `values` (n, k): column i of it goes to `columns[i]` of the result (n, width)."""
        shape = self.add("Shape", values)
        rows = self.add("Gather", shape, self.constant(np.array([0], np.int64)), axis=0)
        result = self.add("Concat", rows, self.constant(np.array([width], np.int64)), axis=0)
        empty = self.add("Expand", self.constant(np.array([[fill]], np.float32)), result)
        at = self.add("Expand", self.constant(columns[None]), shape)
        return self.add("ScatterElements", empty, at, values, axis=1, reduction=reduction)

    def model(self, dimension: int, outputs: Sequence[tuple[str, int]]) -> onnx.ModelProto:
        """Return the checked model with these values as its outputs."""
        results = []
        for number, (value, nodes) in enumerate(outputs):
            name = f"probabilities_{number}"
            self._nodes.append(helper.make_node("Identity", [value], [name]))
            results.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["images", nodes]))
        source = helper.make_tensor_value_info(INPUT_NAME, onnx.TensorProto.FLOAT, ["images", dimension])
        graph = helper.make_graph(self._nodes, "head", [source], results, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        return model
