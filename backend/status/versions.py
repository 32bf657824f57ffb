"""The figures of a project's versions: how good they were on test images, what they promise, what came true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.suggestions import AnswerCount
from taxonomist.backend.status.counts import answers_of
from taxonomist.backend.status.values import ProjectStatus
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.tree_metrics import LevelMetrics


@dataclass(frozen=True)
class PromisedPrecision:
    """What a version promises for a control.

    Paths with at least these probabilities by level are suggested, None for a level that never is; `target` of them are
    right, surely or else on average over versions. Where `labels` do not suffice for that, about `labels_needed` may.
    `fused`: it is of several images of a product together. `floor` replaces the probabilities where the promise was
    found broken; infinite: nothing is suggested.
    """

    control: str
    fused: bool
    target: float
    sure: bool
    probabilities: tuple[float | None, ...]
    has_shortlists: bool
    labels: int
    labels_needed: int | None
    floor: float | None

    @property
    def suggests(self) -> bool:
        """Whether any path is suggested."""
        return any(value is not None for value in self.probabilities) and self.floor != float("inf")


@dataclass(frozen=True)
class VersionFigures:
    """The figures of a version. The metrics by control are those on test images, which no version has learned from.

    `levels` has what each level of the taxonomy has. `answers` count what accepted labels say about the suggestions.
    `promoted` is the decision after its training and `reason` says why, in English; None where that is not recorded.
    """

    version: str
    name: str
    served: bool
    created_at: datetime | None
    labels: int | None
    test_images: int
    test_products: int
    products_known: bool
    macro_f1: Mapping[str, float]
    levels: Mapping[str, tuple[LevelMetrics, ...]]
    promises: tuple[PromisedPrecision, ...]
    answers: tuple[AnswerCount, ...]
    promoted: bool | None
    reason: str | None
    challenger_f1: float | None
    champion_f1: float | None

    def right(self, *, blind: bool) -> tuple[int, int]:
        """Return how many suggestions were right and how many have an answer; `blind` are those that were not shown."""
        counts = [count for count in self.answers if count.blind == blind]
        return sum(count.right for count in counts), sum(count.answered for count in counts)


def project_versions(services: Services, project: str, status: ProjectStatus) -> Iterator[VersionFigures]:
    """Yield the figures of each version that can be read."""
    served = status.model.version if status.model else None
    for version in services.registry.versions(registry_name(project)):
        try:
            yield _figures(services, project, version, served=version.version == served)
        except DamagedError:
            continue


def _figures(services: Services, project: str, version: ModelVersion, *, served: bool) -> VersionFigures:
    manifest, name = version.head_manifest, model_version_name(version.version)
    floors = services.suggestions.floors(project, name)
    tested, promotion = manifest.tested, manifest.promotion
    figures = promotion.figures if promotion else None
    return VersionFigures(
        version=version.version,
        name=name,
        served=served,
        created_at=datetime.fromisoformat(manifest.created_at) if manifest.created_at else None,
        labels=manifest.data.count if manifest.data else None,
        test_images=tested.images if tested else 0,
        test_products=tested.products if tested else 0,
        products_known=tested.products_known if tested else False,
        macro_f1={control: metrics.macro_f1 for control, metrics in manifest.metrics.items()},
        levels={control: metrics.levels for control, metrics in manifest.metrics.items()},
        promises=(
            *(_promise(control, found, floors, fused=False) for control, found in sorted(manifest.calibration.items())),
            *(_promise(control, found, floors, fused=True) for control, found in sorted(manifest.fused.items())),
        ),
        answers=answers_of(services, project, name),
        promoted=promotion.promoted if promotion else None,
        reason=promotion.reason if promotion else None,
        challenger_f1=figures.f1 if figures else None,
        champion_f1=figures.champion_f1 if figures else None,
    )


def _promise(control: str, calibration: Calibration, floors: Mapping[str, float], *, fused: bool) -> PromisedPrecision:
    return PromisedPrecision(
        control=control,
        fused=fused,
        target=calibration.target_precision,
        sure=calibration.promise == "sure",
        probabilities=tuple(value if isfinite(value) else None for value in calibration.thresholds),
        has_shortlists=calibration.has_shortlists,
        labels=calibration.labels or max(calibration.support, default=0),
        labels_needed=calibration.labels_needed,
        floor=floors.get(control),
    )
