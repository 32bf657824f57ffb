"""Decides whether a challenger may replace the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from taxonomist.taxonomy.comparison import PairedComparison
from taxonomist.taxonomy.tree_metrics import TreeMetrics

MetricsByControl = Mapping[str, TreeMetrics]
_ROUNDING = 1e-9
WORST_LOSS = 0.02
"""Macro-F1 that one project may lose when the projects gain on average. Two trainings of one head on a few hundred
labels differ by as much by chance (measured), so that a project cannot block a promotion by chance."""


@dataclass(frozen=True)
class Decision:
    """Whether to promote; `reason` is a sentence with the figures for the user. `figures` are those of a comparison."""

    promote: bool
    reason: str
    figures: PairedComparison | None = None


def decide_promotion(figures: PairedComparison | None, *, champion_version: str | None = None) -> Decision:
    """Return the decision: promote unless hierarchical F1 and log-loss together speak clearly against the challenger.
    What is clear depends on how many images the two have learned from.

    `figures` are None when the champion cannot be scored on the test images; without `champion_version` there is no
    champion.
    """
    if champion_version is None:
        return Decision(True, "It is the first model of the project.")
    if figures is None:
        return Decision(False, f"{champion_version} belongs to another backbone, so the two cannot be compared.")
    if not figures.labels:
        return Decision(False, f"There are no test images yet to compare it with {champion_version}.")
    if figures.t_f1 + figures.t_loss >= 0:
        verdict = "It is not clearly better, though it has fewer images" if figures.is_worse else "It is not worse"
    else:
        verdict = "It is worse" if figures.is_worse else "It is not clearly worse"
    return Decision(not figures.is_worse, f"{verdict}: {_in_words(figures, champion_version)}.", figures)


def _in_words(figures: PairedComparison, champion_version: str) -> str:
    images = ""
    if figures.learned and figures.champion_learned:
        images = (
            f" {figures.learned} images to learn from against {figures.champion_learned} "
            f"(both t together have to reach {figures.limit:+.1f}),"
        )
    return (
        f"hierarchical F1 {figures.f1:.3f} against {figures.champion_f1:.3f} of {champion_version} "
        f"(t = {figures.t_f1:+.1f}), log-loss {figures.loss:.2f} against {figures.champion_loss:.2f} "
        f"(t = {figures.t_loss:+.1f}),{images} on {figures.labels} test images of {_products(figures.products)}"
    )


def _products(count: int) -> str:
    return "1 product" if count == 1 else f"{count} products"


def decide_without_comparison(champion_version: str, known: int, images: int, *, drawn_again: bool) -> Decision:
    """Return the decision where no test image can compare the two: promote, since the champion's figures are void.

    The champion has learned from products of `known` of the `images` test images: of all that have a label to score,
    unless the split was `drawn_again`.
    """
    learned = f": {champion_version} has learned from products of {known} of {images} test images" if known else ""
    if not drawn_again:
        return Decision(True, f"No test image can compare the two, so it is served without a comparison{learned}.")
    return Decision(
        True, f"The test images were drawn again by product, so it is served without a comparison{learned}."
    )


def left_to_a_person(decision: Decision) -> Decision:
    """Return the decision for a project whose versions a person promotes; the figures of the comparison stay in it."""
    return replace(decision, promote=False, reason=f"A person promotes the versions of this project. {decision.reason}")


def with_caveats(decision: Decision, caveats: Sequence[str]) -> Decision:
    """Return the decision whose reason names what a reader of its figures must know."""
    if not caveats:
        return decision
    return replace(decision, reason=f"{decision.reason.removesuffix('.')} ({', '.join(caveats)}).")


@dataclass(frozen=True)
class Vote:
    """The scores of one project's heads on its test images: with a new backbone, and with the served one."""

    project: str
    new: float  # macro-F1, averaged over the controls
    old: float
    images: int
    caveats: tuple[str, ...] = ()  # what a reader of the scores must know


def vote_of(
    project: str, challenger: MetricsByControl, champion: MetricsByControl | None, caveats: Sequence[str] = ()
) -> Vote | None:
    """Return the vote of a project; None without test images, or without a champion that was scored on them."""
    if not challenger or champion is None:
        return None
    new, old, images = _figures(challenger, champion)
    return Vote(project, new, old, images, tuple(caveats))


def decide_backbone(votes: Sequence[Vote]) -> Decision:
    """Return the decision: promote a backbone and its heads when the projects gain on average and none loses much."""
    if not votes:
        return Decision(False, "No project has both a model and test images to compare it on.")
    new, old = fmean(vote.new for vote in votes), fmean(vote.old for vote in votes)
    images = sum(vote.images for vote in votes)
    where = f"{len(votes)} projects" if len(votes) > 1 else f"project {votes[0].project}"
    figures = f"macro-F1 {new:.3f} against {old:.3f}, on {images} test images of {where}"
    figures += "".join(f"; {', '.join(vote.caveats)} in project {vote.project}" for vote in votes if vote.caveats)
    worst = min(votes, key=lambda vote: vote.new - vote.old)
    if worst.new < worst.old - WORST_LOSS:
        return Decision(
            False, f"Project {worst.project} would lose: macro-F1 {worst.new:.3f} against {worst.old:.3f} ({figures})."
        )
    if new > old + _ROUNDING:
        return Decision(True, f"It is better: {figures}.")
    return Decision(False, f"It is not better: {figures}.")


def _figures(challenger: MetricsByControl, champion: MetricsByControl) -> tuple[float, float, int]:
    """Return macro-F1 of both, averaged over the controls, and the number of test images."""
    new = fmean(metrics.macro_f1 for metrics in challenger.values())
    old = fmean(champion[control].macro_f1 if control in champion else 0.0 for control in challenger)
    return new, old, max(level.support for metrics in challenger.values() for level in metrics.levels)
