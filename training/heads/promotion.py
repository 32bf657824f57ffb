"""Whether a challenger may replace the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from taxonomist.taxonomy.tree_metrics import TreeMetrics

MetricsByControl = Mapping[str, TreeMetrics]
_ROUNDING = 1e-9
WORST_LOSS = 0.02
"""Of macro-F1 that one project may lose for the good of all: as much as two trainings of one head on a few hundred
labels differ by chance, so that a project cannot veto by bad luck."""


@dataclass(frozen=True)
class Decision:
    """`reason` is a sentence for people, with the figures."""

    promote: bool
    reason: str


def decide_promotion(
    challenger: MetricsByControl, champion: MetricsByControl | None, *, champion_version: str | None = None
) -> Decision:
    """Promote the challenger unless it is worse than the champion in macro-F1, averaged over the controls.

    Both metrics are by control and come from the same test images; empty ones mean that there is no test image.
    `champion` is None when it cannot be judged on them; without `champion_version` there is none.
    """
    if champion_version is None:
        return Decision(True, "It is the first model of the project.")
    if not challenger:
        return Decision(False, f"There are no test images yet on which it could be compared with {champion_version}.")
    if champion is None:
        return Decision(False, f"{champion_version} belongs to another backbone, so the two cannot be compared.")
    new, old, images = _figures(challenger, champion)
    figures = f"macro-F1 {new:.3f} against {old:.3f} of {champion_version}, on {images} test images"
    if new >= old - _ROUNDING:
        return Decision(True, f"It is not worse: {figures}.")
    return Decision(False, f"It is worse: {figures}.")


@dataclass(frozen=True)
class Vote:
    """How the head of one project does on its test images with a new backbone, and with the one that is served."""

    project: str
    new: float  # macro-F1, averaged over the controls
    old: float
    images: int


def vote_of(project: str, challenger: MetricsByControl, champion: MetricsByControl | None) -> Vote | None:
    """None when there is no test image, or no champion that could be scored on them."""
    if not challenger or champion is None:
        return None
    new, old, images = _figures(challenger, champion)
    return Vote(project, new, old, images)


def decide_backbone(votes: Sequence[Vote]) -> Decision:
    """Promote a backbone, with the heads trained on it, when the projects gain on average and none loses much."""
    if not votes:
        return Decision(False, "No project has both a model and test images to judge it by.")
    new, old = fmean(vote.new for vote in votes), fmean(vote.old for vote in votes)
    images = sum(vote.images for vote in votes)
    where = f"{len(votes)} projects" if len(votes) > 1 else f"project {votes[0].project}"
    figures = f"macro-F1 {new:.3f} against {old:.3f}, on {images} test images of {where}"
    worst = min(votes, key=lambda vote: vote.new - vote.old)
    if worst.new < worst.old - WORST_LOSS:
        return Decision(
            False, f"Project {worst.project} would lose: macro-F1 {worst.new:.3f} against {worst.old:.3f} ({figures})."
        )
    if new > old + _ROUNDING:
        return Decision(True, f"It is better: {figures}.")
    return Decision(False, f"It is not better: {figures}.")


def _figures(challenger: MetricsByControl, champion: MetricsByControl) -> tuple[float, float, int]:
    """Macro-F1 of both, averaged over the controls, and the number of test images."""
    new = fmean(metrics.macro_f1 for metrics in challenger.values())
    old = fmean(champion[control].macro_f1 if control in champion else 0.0 for control in challenger)
    return new, old, max(level.support for metrics in challenger.values() for level in metrics.levels)
