"""The ONNX graph of a head gives the probabilities that are served."""

from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest

from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.ensemble_weights import EnsembleHead
from taxonomist.inference.heads.features import ProductProjection
from taxonomist.inference.heads.head import Head
from taxonomist.inference.heads.head_weights import Array, HeadWeights
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.export.head_graph import INPUT_NAME, head_graph

DIMENSION = 8
DEEP = Tree(
    "media",
    "image",
    "taxonomy",
    (("a",), ("a", "x"), ("a", "x", "1"), ("a", "x", "2"), ("a", "y"), ("b",), ("c",), ("c", "z"), ("c", "z", "1")),
)
FLAT = Tree("embeddings", "image", "choices", (("yes",), ("no",), ("",)))
TREES = {"media": DEEP, "embeddings": FLAT}


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def two_layers(scale: np.float32) -> HeadWeights:
    nodes = len(DEEP) + len(FLAT)
    return HeadWeights(
        mean=random(DIMENSION),
        scale=np.abs(random(DIMENSION)) + np.float32(0.1),
        weight1=scale * random(5, DIMENSION),
        bias1=random(5),
        weight2=scale * random(nodes, 5),
        bias2=random(nodes),
        controls=(("embeddings", len(FLAT)), ("media", len(DEEP))),
    )


def discriminants(*inside: str) -> DiscriminantHead:
    """Return a head; the controls `inside` have a space of three numbers."""

    def of(tree: Tree, nodes: list[int]) -> Discriminant:
        space = ProductProjection(random(DIMENSION), random(DIMENSION, 3)) if tree.control in inside else None
        weight = np.float32(10) * random(len(nodes), 3 if space else DIMENSION)
        return Discriminant(weight, random(len(nodes)), np.array(nodes), tree.parents.astype(np.int64), space)

    return DiscriminantHead({"media": of(DEEP, [2, 4, 3, 1, 8]), "embeddings": of(FLAT, [0, 2])})


@pytest.mark.parametrize(
    "head",
    [
        two_layers(np.float32(1)),
        two_layers(np.float32(60)),
        discriminants(),
        discriminants("embeddings"),
        discriminants("media", "embeddings"),
        EnsembleHead(two_layers(np.float32(1)), discriminants()),
        EnsembleHead(two_layers(np.float32(1)), discriminants("media", "embeddings")),
    ],
)
@pytest.mark.parametrize("temperatures", [{}, {"media": 2.5, "embeddings": 0.3}])
def test_probabilities_are_those_that_are_served(head: Head, temperatures: Mapping[str, float]) -> None:
    embeddings = np.concatenate([random(20, DIMENSION), np.zeros((1, DIMENSION), np.float32)])
    graph = head_graph(head, TREES, temperatures)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run(None, {INPUT_NAME: embeddings})
    expected = head.log_probabilities(embeddings, TREES, temperatures)
    assert [output.name for output in session.get_outputs()] == ["probabilities_0", "probabilities_1"]
    for (control, log_probabilities), probabilities in zip(expected.items(), found, strict=True):
        assert probabilities.shape == (21, len(TREES[control]))
        np.testing.assert_allclose(probabilities, np.exp(log_probabilities), atol=1e-5)


def test_another_kind_of_head_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        head_graph(object(), TREES, {})  # type: ignore[arg-type]
