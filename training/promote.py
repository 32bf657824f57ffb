"""Whether a challenger may replace the champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from taxonomy.metrics import TreeMetrics

MetricsByControl = Mapping[str, TreeMetrics]
_ROUNDING = 1e-9


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
    images = max(level.support for metrics in challenger.values() for level in metrics.levels)
    new = fmean(metrics.macro_f1 for metrics in challenger.values())
    old = fmean(champion[control].macro_f1 if control in champion else 0.0 for control in challenger)
    figures = f"macro-F1 {new:.3f} against {old:.3f} of {champion_version}, on {images} test images"
    if new >= old - _ROUNDING:
        return Decision(True, f"It is not worse: {figures}.")
    return Decision(False, f"It is worse: {figures}.")
