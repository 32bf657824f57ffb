"""The heads of two layers in an ensemble: each learns without one fold of the products, and predicts these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taxonomist.inference.heads.head_weights import Array, HeadWeights
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.calibration.temperature_scaling import Truths, fit_temperature
from taxonomist.taxonomy.path_probabilities import FloatArray, path_log_probabilities
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import HeadData, Outputs
from taxonomist.training.heads.discriminant.closed_form import DiscriminantOptions
from taxonomist.training.heads.discriminant.held_out import folds_of
from taxonomist.training.heads.head_options import HeadOptions

MEMBERS = 5


@dataclass(frozen=True)
class Members:
    """Heads of two layers that learned from the same n images, but each without a fold of their products.

    `held_out` (n, outputs) are the logits of each image by the head that has seen nothing of its product; zeros, which
    say nothing, where all images show one product.
    """

    heads: Sequence[HeadWeights]
    held_out: Array
    outputs: Outputs

    def temperature(self, tree: Tree, rows: Sequence[int], truths: Truths) -> float:
        """Return the temperature that fits the held-out logits of the images `rows`, which have these labels."""
        return fit_temperature(tree, self.held_out[rows, self.outputs.slices[tree.control]], truths)

    def held_out_probabilities(self, tree: Tree, rows: Sequence[int], temperature: float) -> FloatArray:
        """Return P(path) (rows, nodes) of every node of a tree for some of the images."""
        logits = self.held_out[rows, self.outputs.slices[tree.control]]
        probabilities: FloatArray = np.exp(path_log_probabilities(logits / np.float32(temperature), tree))
        return probabilities

    def merged(self, temperatures: Mapping[str, float]) -> HeadWeights:
        """Return one head whose logits are the mean of those of all heads, divided by the temperature of each control.

        Its hidden layer has the units of all heads, and their standardisation is in its weights.
        """
        heads = self.heads
        scales = [
            np.full(nodes, 1 / len(heads) / temperatures.get(control, 1.0)) for control, nodes in heads[0].controls
        ]
        scale = np.concatenate(scales).astype(np.float32)
        return HeadWeights(
            mean=np.zeros_like(heads[0].mean),
            scale=np.ones_like(heads[0].scale),
            weight1=np.concatenate([head.weight1 / head.scale for head in heads]),
            bias1=np.concatenate([head.bias1 - head.weight1 @ (head.mean / head.scale) for head in heads]),
            weight2=scale[:, None] * np.concatenate([head.weight2 for head in heads], axis=1),
            bias2=scale * np.sum([head.bias2 for head in heads], axis=0),
            controls=heads[0].controls,
        )


def train_members(
    data: HeadData, products: Sequence[str], outputs: Outputs, options: HeadOptions, progress: StepProgress
) -> Members:
    """Train `MEMBERS` heads, fewer where there are fewer products, on data with one row for each image.

    No image stops a training: the held-out ones are for the calibration. `progress` gets the step "training". Raises
    what `train_head` does.
    """
    from taxonomist.training.heads.head import train_head  # noqa: PLC0415 - brings torch

    folds = folds_of(products, DiscriminantOptions(folds=MEMBERS, seed=options.seed))
    count = int(folds.max()) + 1
    heads, held_out = [], np.zeros((len(data.targets), len(outputs)), np.float32)
    for fold in range(count):
        learned = folds != fold if count > 1 else np.ones(len(folds), np.bool_)
        own = replace(options, seed=options.seed + fold)
        head = train_head(HeadData.plain(data.vectors[learned], data.targets[learned]), outputs, own).weights
        held_out[~learned] = head.outputs(data.vectors[~learned])
        heads.append(head)
        progress("training", (fold + 1) / (count + 1))
    return Members(heads, held_out, outputs)
