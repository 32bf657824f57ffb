"""Learns a head of each kind from a dataset, with its calibration.

A new kind has a branch in `learn`, and options in `TrainingOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.ensemble_weights import EnsembleHead, mean_probabilities
from taxonomist.inference.heads.fusion import Fusion
from taxonomist.inference.heads.head import Head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.progress import StepProgress
from taxonomist.storage.registry.manifests import SpaceFigures
from taxonomist.taxonomy.calibration import (
    Calibration,
    Promise,
    fit_calibration,
    fit_promise,
    fit_shortlists,
    promise_for,
)
from taxonomist.taxonomy.groups import LevelPurity, pure_depth, purity_by_level
from taxonomist.taxonomy.labelled_part import labelled_part
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import prefixes
from taxonomist.training.heads.data.dataset import Dataset
from taxonomist.training.heads.data.targets import Outputs, stops
from taxonomist.training.heads.discriminant.choose_space import better_learning
from taxonomist.training.heads.discriminant.fit_discriminant import (
    DiscriminantOptions,
    ProductFeatures,
)
from taxonomist.training.heads.discriminant.fit_fusion import FittedFusion, calibrate_fusion, fit_fusion
from taxonomist.training.heads.ensemble import Members, train_members
from taxonomist.training.heads.evaluation import Evaluation, evaluate, evaluate_predictions, most_likely_paths
from taxonomist.training.heads.head_options import HeadOptions, TrainedHead

HeadKind = Literal["mlp", "lda", "ensemble"]
"""A head of two layers that is trained in epochs, linear discriminant analysis, or five of the former with the latter.
"""


@dataclass(frozen=True)
class TrainingOptions:
    """How a project's head is trained, calibrated and tested."""

    head: HeadOptions = field(default_factory=HeadOptions)
    kind: HeadKind = "mlp"  # `head` is for "mlp" and "ensemble", `discriminant` for "lda" and "ensemble"
    discriminant: DiscriminantOptions = field(default_factory=DiscriminantOptions)
    views: int = 4  # augmented views of each training image
    test_share: float = 0.2
    validation_share: float = 0.2  # of the images that are not in the test part
    target_precision: float = 0.90  # of the suggestions at a level
    confidence: float = 0.80  # that the target precision is reached
    promise: Promise | None = None  # not of "mlp"; None: by the number of labels that calibrate
    seed: int = 0

    @property
    def views_read(self) -> int:
        """The augmented views of a training image that the kind of head learns from."""
        return self.views if self.kind == "mlp" else 0

    @property
    def share_held_out(self) -> float:
        """The share of the images outside the test part that the kind of head does not learn from."""
        return self.validation_share if self.kind == "mlp" else 0.0

    @property
    def learns_from_companions(self) -> bool:
        """Whether the kind of head learns from images without labels whose product has some."""
        return self.kind != "mlp"


@dataclass(frozen=True)
class Learned:
    """A head, its calibration, and its evaluation on images that it was calibrated on.

    `training` has the learning curves, None for a head without epochs. `purity` says by control and level how far the
    labelled images of a product agree, where products are known and used. `fusions` predict several
    images of a product together, for controls for which that is a gain; `fused` has their calibrations. `spaces` says
    by control whether its discriminant learned in the space that products have taught, where they have.
    """

    head: Head
    calibration: Mapping[str, Calibration]
    validation: Mapping[str, Evaluation]
    training: TrainedHead | None = None
    purity: Mapping[str, tuple[LevelPurity, ...]] = field(default_factory=dict)
    fused: Mapping[str, Calibration] = field(default_factory=dict)
    fusions: Mapping[str, Fusion] = field(default_factory=dict)
    spaces: Mapping[str, SpaceFigures] = field(default_factory=dict)


def learn(data: Dataset, outputs: Outputs, options: TrainingOptions, progress: StepProgress) -> Learned:
    """Learn a head of the kind that the options name. `progress` gets the step "training"."""
    return (_learn_mlp if options.kind == "mlp" else _learn_discriminant)(data, outputs, options, progress)


def _learn_mlp(data: Dataset, outputs: Outputs, options: TrainingOptions, progress: StepProgress) -> Learned:
    """Train a head of two layers. It is calibrated on the validation part: the training part is too optimistic, and the
    test part must not influence the model."""
    from taxonomist.training.heads.head import train_head  # noqa: PLC0415 - brings torch

    def on_epoch(done: int, total: int) -> None:
        progress("training", done / total)

    trained = train_head(
        data.train_data(outputs), outputs, options.head, data.validation_data(outputs), on_epoch=on_epoch
    )
    labels = [example.labels for example in data.validation]
    validation = evaluate(trained.weights, outputs.trees, data.validation_x, labels)
    return Learned(trained.weights, _calibrate(trained.weights, outputs, data, options), validation, trained)


def _learn_discriminant(data: Dataset, outputs: Outputs, options: TrainingOptions, progress: StepProgress) -> Learned:
    """Fit a discriminant for each control, and for an ensemble heads of two layers beside them. They learn from all
    images that are not kept for testing, and are calibrated on what models without their products predict for those
    that were drawn at random."""
    members, temperatures = _members(data, outputs, options, progress), dict[str, float]()
    discriminants: dict[str, Discriminant] = {}
    calibration: dict[str, Calibration] = {}
    validation: dict[str, Evaluation] = {}
    purity: dict[str, tuple[LevelPurity, ...]] = {}
    fusions, fused = dict[str, Fusion](), dict[str, Calibration]()
    groups = [example.group for example in data.train]
    shared = [companions.means(data.train_x, groups) for companions in data.companions]
    spaces = dict[str, SpaceFigures]()
    for done, whole in enumerate(outputs.trees):
        if not members:
            progress("training", done / len(outputs.trees))
        rows = [row for row, example in enumerate(data.train) if example.labels.get(whole.control)]
        examples = [data.train[row] for row in rows]
        truths = [example.labels[whole.control] for example in examples]
        tree = whole if members else labelled_part(whole, truths)
        products = [example.product for example in examples]
        drawn = [row for row, example in enumerate(examples) if example.calibrates]
        fusion: FittedFusion | None = None
        held_out: FloatArray = np.zeros((len(rows), len(tree)), np.float32)
        if rows:
            if shared:
                known = [example.group or f"image {example.id}" for example in examples]
                purity[tree.control] = purity_by_level(truths, known, tree.depth)
            depth = pure_depth(purity.get(tree.control, ()))
            others = [ProductFeatures(means[rows], sizes[rows], depth) for means, sizes in shared]
            learning, space = better_learning(
                data.train_x[rows], stops(tree, truths), products, tree, options.discriminant, others, data.taught
            )
            if space:
                spaces[tree.control] = space
            fitted = learning.fitted()
            discriminants[tree.control], held_out = fitted.weights.in_tree(tree, whole), fitted.held_out
            fusion = None if members else fit_fusion(learning, products)
            if members:
                temperatures[tree.control] = members.temperature(tree, rows, truths)
                theirs = members.held_out_probabilities(tree, rows, temperatures[tree.control])
                held_out = mean_probabilities(fitted.weights, theirs, held_out)
        judged = held_out[drawn], [truths[row] for row in drawn], [products[row] for row in drawn]
        target = options.target_precision
        promised = fit_promise(
            tree,
            *judged,
            target_precision=target,
            confidence=options.confidence,
            promise=options.promise or promise_for(len(drawn), target),
        )
        calibration[tree.control] = fit_shortlists(tree, *judged, promised, confidence=options.confidence)
        if fusion and (
            together := calibrate_fusion(
                fusion, tree, held_out, truths, products, drawn, calibration[tree.control], options.confidence
            )
        ):
            fusions[tree.control], fused[tree.control] = fusion.fusion, together
        with np.errstate(divide="ignore"):
            predictions = most_likely_paths(tree, np.log(held_out))
        if evaluation := evaluate_predictions(tree, [example.labels for example in examples], predictions):
            validation[tree.control] = evaluation
    progress("training", 1.0)
    head: Head = DiscriminantHead(discriminants)
    if members:
        head = EnsembleHead(members.merged(temperatures), DiscriminantHead(discriminants))
    return Learned(head, calibration, validation, purity=purity, fused=fused, fusions=fusions, spaces=spaces)


def _members(data: Dataset, outputs: Outputs, options: TrainingOptions, progress: StepProgress) -> Members | None:
    """Return the heads of two layers in an ensemble, None for another kind of head."""
    if options.kind != "ensemble":
        return None
    products = [example.product for example in data.train]
    return train_members(data.train_data(outputs), products, outputs, options.head, progress)


def _calibrate(
    weights: HeadWeights, outputs: Outputs, data: Dataset, options: TrainingOptions
) -> dict[str, Calibration]:
    """Return the calibration by control, on the images of the validation part that were drawn at random.

    An order of labelling prefers some kinds of images, whose precision is not that of the others.
    """
    drawn = [row for row, example in enumerate(data.validation) if example.calibrates]
    logits = weights.logits(data.validation_x[drawn])
    return {
        tree.control: fit_calibration(
            tree,
            logits[tree.control],
            [data.validation[row].labels.get(tree.control, ()) for row in drawn],
            target_precision=options.target_precision,
            confidence=options.confidence,
            learned={
                node
                for example in data.train
                for path in example.labels.get(tree.control, ())
                for node in prefixes(path)
            },
        )
        for tree in outputs.trees
    }
