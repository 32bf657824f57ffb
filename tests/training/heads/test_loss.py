import numpy as np
import pytest
import torch

from taxonomist.taxonomy.path_probabilities import group_log_softmax
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Outputs, balance
from taxonomist.training.heads.loss import SiblingCrossEntropy

LABELS: list[dict[str, tuple[TaxonomyPath, ...]]] = [
    {"media": (("bath", "bath-a"),)},
    {"media": (("tools",),)},
    {"media": (("bath", "bath-b"), ("bath", "bath-a"))},
    {"media": (("bath", "bath-b"), ("pipes", "pipes-a"))},
    {"media": (), "other": (("x",),)},
]


def test_targets_by_hand(tree: Tree) -> None:
    targets = Outputs((tree,)).encode(LABELS)
    at = tree.index
    assert targets[0].nonzero()[0].tolist() == [at["bath",], at["bath", "bath-a"]]
    assert targets[1].nonzero()[0].tolist() == [at["tools",]]  # stops at an inner node: nothing below
    assert targets[2, at["bath",]] == 1
    assert targets[2, at["bath", "bath-a"]] == targets[2, at["bath", "bath-b"]] == 0.5
    assert targets[3, at["bath",]] == targets[3, at["pipes", "pipes-a"]] == 0.5
    assert not targets[4].any()


def test_loss_is_minus_log_probability_of_the_path(tree: Tree) -> None:
    outputs = Outputs((tree,))
    logits = np.random.default_rng(0).normal(size=(5, len(tree))).astype(np.float32) * 3
    log = group_log_softmax(logits, tree)
    at = tree.index
    expected = -(log[0, at["bath",]] + log[0, at["bath", "bath-a"]])
    expected -= log[1, at["tools",]]
    expected -= log[2, at["bath",]] + (log[2, at["bath", "bath-a"]] + log[2, at["bath", "bath-b"]]) / 2
    expected -= (log[3, at["bath",]] + log[3, at["bath", "bath-b"]]) / 2
    expected -= (log[3, at["pipes",]] + log[3, at["pipes", "pipes-a"]]) / 2
    loss = SiblingCrossEntropy(torch.from_numpy(outputs.group_of))
    found = loss(torch.from_numpy(logits), torch.from_numpy(outputs.encode(LABELS)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_one_group_is_torchs_cross_entropy() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    loss = SiblingCrossEntropy(torch.zeros(5, dtype=torch.long))
    found = loss(logits, torch.nn.functional.one_hot(classes, 5).float())
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, classes, reduction="sum"))


def test_gradient_is_the_numerical_one(tree: Tree) -> None:
    outputs = Outputs((tree,))
    loss = SiblingCrossEntropy(torch.from_numpy(outputs.group_of))
    targets = torch.from_numpy(outputs.encode(LABELS)).double()
    logits = torch.randn(5, len(tree), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: loss(x, targets) * 2, (logits.requires_grad_(),))


def test_large_logits_stay_finite() -> None:
    loss = SiblingCrossEntropy(torch.tensor([0, 0, 1, 1]))
    logits = torch.tensor([[1000.0, -1000.0, -1000.0, -1000.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
    value.backward()
    assert value.item() == pytest.approx(2000 + np.log(2))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_several_trees_stand_side_by_side(tree: Tree) -> None:
    other = Tree("other", "image", "choices", (("x",), ("y",)))
    outputs = Outputs((tree, other))
    assert len(outputs) == len(tree) + 2
    assert outputs.slices == {"media": slice(0, 9), "other": slice(9, 11)}
    assert [top.tolist() for top in outputs.tops] == [[0, 3, 6], [9, 10]]
    assert len(set(outputs.group_of[9:])) == 1
    assert not set(outputs.group_of[9:]) & set(outputs.group_of[:9])
    assert outputs.encode(LABELS)[4].nonzero()[0].tolist() == [9]


def test_balance_gives_each_top_node_the_same_weight(tree: Tree) -> None:
    outputs = Outputs((tree,))
    labels = [{"media": (("bath",),)}] * 6 + [{"media": (("tools",),)}] * 3 + [{"media": (("pipes",),)}]
    weights = balance(outputs.encode(labels), outputs)
    assert weights.mean() == pytest.approx(1)
    assert weights[:6].sum() == pytest.approx(weights[6:9].sum()) == pytest.approx(weights[9:].sum())
