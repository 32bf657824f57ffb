"""Two versions on the test images that both keep: what got better, and what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status.evaluation.curves import CurvePoint, at_thresholds
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, control_outcomes
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_metrics import TreeMetrics, evaluate_paths
from taxonomist.training.heads.report.outcomes import ImageOutcome

Became = Literal["better", "worse", "right", "wrong"]
"""Right in the version alone, in the other one alone, in both, in neither."""
BECAME: tuple[Became, ...] = get_args(Became)
WHOLE = 0
"""In place of a level: the whole label."""


@dataclass(frozen=True)
class LevelChange:
    """The ids of images whose label reaches a level, 1 is the top, or `WHOLE`, by what became of them."""

    level: int
    images: Mapping[Became, tuple[str, ...]]

    @property
    def total(self) -> int:
        """The number of the images."""
        return sum(map(len, self.images.values()))

    def right(self, *, other: bool) -> int:
        """Return for how many images the version is right, or the other one."""
        return len(self.images["right"]) + len(self.images["worse" if other else "better"])


@dataclass(frozen=True)
class Side:
    """A version of a comparison: its metrics, and what it suggests with its own thresholds, None without any."""

    version: str
    metrics: TreeMetrics
    suggests: CurvePoint | None


@dataclass(frozen=True)
class VersionComparison:
    """A version beside another one on the same `images`, which neither has learned from.

    The labels are those of the newer one. The whole label comes first, unless the last level is the same.
    """

    version: Side
    other: Side
    images: int
    changes: tuple[LevelChange, ...]


def compare_versions(
    services: Services, project: str, version: str, other: str, control: str
) -> VersionComparison | None:
    """Return the comparison of two versions for a control, None where they share no test image.

    Raises `NotFoundError` and `DamagedError`.
    """
    if version == other:
        raise NotFoundError(f"Version {version} cannot be compared with itself.")
    ours, theirs = (control_outcomes(services, project, name, control) for name in (version, other))
    order = [found.version for found in services.registry.versions(registry_name(project))]
    is_newer = order.index(version) > order.index(other)
    return _compared(ours, theirs, is_newer, _renames(services, project, control))


def images_of_change(
    services: Services, project: str, version: str, other: str, control: str, level: int, became: Became
) -> list[str]:
    """Return the ids of the images with this change, in order. Raises as `compare_versions` does, and `NotFoundError`
    for a level without images."""
    compared = compare_versions(services, project, version, other, control)
    for change in compared.changes if compared else ():
        if change.level == level:
            return list(change.images[became])
    raise NotFoundError(f"No test image of both {version} and {other} has a label at level {level}.")


def _renames(services: Services, project: str, control: str) -> tuple[tuple[TaxonomyPath, TaxonomyPath], ...]:
    try:
        return services.label_config(project).tree(control).renamed
    except ConfigError:
        return ()


@lru_cache(4)
def _compared(
    ours: ControlOutcomes,
    theirs: ControlOutcomes,
    is_newer: bool,
    renamed: tuple[tuple[TaxonomyPath, TaxonomyPath], ...],
) -> VersionComparison | None:
    newer, older = (ours, theirs) if is_newer else (theirs, ours)
    tree = replace(newer.tree, renamed=renamed)
    judged, former = [], []
    earlier = {image.image_id: image for image in older.images}
    for image in newer.images:
        if (own := earlier.get(image.image_id)) is not None:
            judged.append(image)
            former.append(replace(own, labels=image.labels, likeliest=tree.current(own.likeliest)))
    if not judged:
        return None
    by_side = (judged, former) if is_newer else (former, judged)
    version, other = (
        Side(
            outcomes.version,
            evaluate_paths(newer.tree, [image.labels for image in images], [image.likeliest for image in images]),
            at_thresholds(outcomes, images),
        )
        for outcomes, images in zip((ours, theirs), by_side, strict=True)
    )
    whole, *levels = (_change(level, *by_side) for level in range(WHOLE, newer.tree.depth + 1))
    levels = [change for change in levels if change.total]
    is_last = whole.images == levels[-1].images  # where all labels are equally deep
    return VersionComparison(version, other, len(judged), (*(() if is_last else (whole,)), *levels))


def _change(level: int, ours: Sequence[ImageOutcome], theirs: Sequence[ImageOutcome]) -> LevelChange:
    found: dict[Became, list[str]] = {became: [] for became in BECAME}
    names: Mapping[tuple[bool, bool], Became] = {
        (True, False): "better",
        (False, True): "worse",
        (True, True): "right",
        (False, False): "wrong",
    }
    for own, other in zip(ours, theirs, strict=True):
        nodes = {label[:level] if level else label for label in own.labels if len(label) >= level}
        if nodes:
            found[names[_is_right(own, nodes), _is_right(other, nodes)]].append(own.image_id)
    return LevelChange(level, {became: tuple(ids) for became, ids in found.items()})


def _is_right(image: ImageOutcome, nodes: set[TaxonomyPath]) -> bool:
    return any(image.likeliest[: len(node)] == node for node in nodes)
