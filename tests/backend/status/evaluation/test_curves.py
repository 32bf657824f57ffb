"""Precision, coverage and reliability, against numbers worked out by hand and the figures of a version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status.evaluation.curves import (
    ReliabilityBin,
    at_thresholds,
    mean_gap,
    precision_curve,
    reliability,
)
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, control_outcomes
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.report.outcomes import ImageOutcome

TREE = Tree(
    "colour", "image", "taxonomy", (("Warm",), ("Warm", "Red"), ("Warm", "Yellow"), ("Cold",), ("Cold", "Blue"))
)
RED, BLUE, WARM = ("Warm", "Red"), ("Cold", "Blue"), ("Warm",)
IMAGES = (
    ImageOutcome("1", (RED,), RED, (0.9, 0.8)),
    ImageOutcome("2", (RED,), ("Warm", "Yellow"), (0.9, 0.6)),
    ImageOutcome("3", (WARM,), RED, (0.7, 0.6)),  # its label does not judge level 2
    ImageOutcome("4", (BLUE,), RED, (0.6, 0.5)),
)
OUTCOMES = ControlOutcomes("v1", TREE, Calibration(1.0, (0.65, 0.65), 0.9, (4, 4)), 4, IMAGES)


def test_precision_and_coverage_by_hand() -> None:
    points = {point.threshold: point for point in precision_curve(OUTCOMES)}
    assert [(points[at].suggested, points[at].judged, points[at].right) for at in (0.0, 0.55, 0.65, 0.85, 0.95)] == [
        (4, 3, 1),
        (4, 3, 1),
        (3, 3, 3),
        (2, 2, 2),
        (0, 0, 0),
    ]
    assert (points[0.65].coverage, points[0.65].precision, points[0.95].precision) == (0.75, 1.0, None)
    assert at_thresholds(OUTCOMES) == points[0.65]


def test_a_control_that_wants_leaves_suggests_only_leaves() -> None:
    outcomes = replace(OUTCOMES, tree=replace(TREE, leafs_only=True))
    points = {point.threshold: point for point in precision_curve(outcomes)}
    assert (points[0.65].suggested, points[0.85].suggested) == (1, 0)


def test_reliability_by_hand() -> None:
    bins = reliability(OUTCOMES)
    assert [(found.low, found.images, found.right) for found in bins] == [
        (0.5, 1, 0),
        (0.6, 1, 0),
        (0.7, 1, 1),
        (0.8, 1, 1),
    ]
    assert mean_gap(bins) == pytest.approx((0.5 + 0.6 + 0.3 + 0.2) / 4)
    assert mean_gap(()) is None
    assert isinstance(bins[0], ReliabilityBin)


def test_what_is_suggested_agrees_with_the_figures_of_the_version(trained: Services) -> None:
    suggested = trained.registry.get(registry_name("7"), "v1").head_manifest.suggested["colour"]
    point = at_thresholds(control_outcomes(trained, "7", "v1", "colour"))
    assert point is not None
    assert (point.images, point.suggested, point.judged, point.right) == (
        suggested.images,
        suggested.suggested,
        suggested.judged,
        suggested.right,
    )
