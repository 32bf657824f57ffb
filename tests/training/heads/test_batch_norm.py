"""The head's batch norm is folded into its first layer: what is kept must predict as what was trained."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import Outputs
from taxonomist.training.heads.head import train_head
from tests.training.heads.test_head import OPTIONS, data_of, toy


def test_batch_norm_is_folded_into_the_kept_weights(tree: Tree) -> None:
    outputs = Outputs((tree,))
    held_x, held_paths = toy(tree, 60, 1)
    held = data_of(tree, held_x, held_paths)
    options = replace(OPTIONS, batch_norm=True, epochs=8)
    head = train_head(data_of(tree, *toy(tree, 300, 0)), outputs, options, held)
    logits = head.weights.outputs(held_x).astype(np.float64)
    loss = -(held.targets * log_softmax(logits, outputs)).sum() / len(held_x)
    assert loss == pytest.approx(head.curves[head.best].validation_loss, rel=1e-4)
    plain = train_head(data_of(tree, *toy(tree, 300, 0)), outputs, replace(options, batch_norm=False), held)
    assert plain.curves[0].train_loss != pytest.approx(head.curves[0].train_loss, rel=1e-3)


def log_softmax(logits: NDArray[Any], outputs: Outputs) -> NDArray[Any]:
    """Return one softmax a group of siblings."""
    result = np.empty_like(logits)
    for group in range(outputs.group_of.max() + 1):
        here = outputs.group_of == group
        result[:, here] = logits[:, here] - np.log(np.exp(logits[:, here]).sum(1, keepdims=True))
    return result
