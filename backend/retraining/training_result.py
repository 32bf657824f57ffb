"""What a training came to, for the person or script that started it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import NEVER_TESTED, PRODUCTS_UNKNOWN, HeadManifest, SuggestionFigures
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.comparison import PairedComparison
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.taxonomy.tree_metrics import TreeMetrics


@dataclass(frozen=True)
class ControlResult:
    """The figures of one control on the test images; scores are 0 to 1.

    `metrics` are those of the new version, `metrics_before` those of the version that was served when it was trained,
    on the same images: None where that was not compared on all of them. `promise` says in words which paths are
    suggested, `target` is the precision that they shall reach. `suggested` is what the test images get, None without
    any.
    """

    control: str
    metrics: TreeMetrics | None
    metrics_before: TreeMetrics | None
    promise: str
    target: float
    suggested: SuggestionFigures | None


@dataclass(frozen=True)
class TrainingResult:
    """The newest version of a project after a training, and what became of it.

    `outcome` is a sentence. `trained` is false where nothing was new: the version is then that of the last training.
    `champion_before` was served before, `served` says whether the new version is now, and `reason` why, or why not.
    `test_images` and `test_products` are unseen by the version, None for a version of an earlier release. `comparison`
    has the figures of both on the test images that neither has seen. `next_steps` are sentences for a person.
    """

    project: str
    outcome: str
    trained: bool
    version: str
    champion_before: str | None
    served: bool
    reason: str
    labels: int | None
    left_out: int
    test_images: int | None
    test_products: int | None
    caveats: tuple[str, ...]
    controls: tuple[ControlResult, ...]
    comparison: PairedComparison | None
    report: Path
    next_steps: tuple[str, ...]


def newest_version(services: Services, project: str) -> str | None:
    """Return the newest version of a project's model, such as "v3"; None while there is none."""
    versions = services.registry.versions(registry_name(project))
    return versions[-1].version if versions else None


def training_result(
    services: Services, project: str, outcome: str, *, newest_before: str | None, champion_before: str | None
) -> TrainingResult:
    """Return the result of a training with that outcome, from the newest version's manifest.

    `newest_before` and `champion_before` are the versions before it. Raises `NotFoundError` without any version.
    """
    versions = services.registry.versions(registry_name(project))
    if not versions:
        raise NotFoundError(f"Project {project} has no model yet.", hint=f"taxonomist train --project {project}")
    version = versions[-1]
    manifest, tested = version.head_manifest, version.head_manifest.tested
    served = services.registry.champion(version.name) == version.version
    before = manifest.champion_metrics or {}
    return TrainingResult(
        project=project,
        outcome=outcome,
        trained=version.version != newest_before,
        version=version.version,
        champion_before=champion_before,
        served=served,
        reason=manifest.promotion.reason if manifest.promotion else "",
        labels=manifest.data.count if manifest.data else None,
        left_out=manifest.data.left_out if manifest.data else 0,
        test_images=tested.images if tested else None,
        test_products=tested.products if tested else None,
        caveats=manifest.caveats,
        controls=tuple(
            ControlResult(
                control,
                manifest.metrics.get(control),
                before.get(control),
                calibration.describe(),
                calibration.target_precision,
                manifest.suggested.get(control),
            )
            for control, calibration in sorted(manifest.calibration.items())
        ),
        comparison=manifest.promotion.figures if manifest.promotion else None,
        report=version.path,
        next_steps=tuple(_next_steps(services, project, version, served=served, champion_before=champion_before)),
    )


def _next_steps(
    services: Services, project: str, version: ModelVersion, *, served: bool, champion_before: str | None
) -> Iterator[str]:
    manifest, name = version.head_manifest, model_version_name(version.version)
    if not served and services.project_settings(project).promotion == "manual":
        yield f"`taxonomist models promote {version.version} --project {project}` serves {name}."
    elif not served:
        yield (
            f"`taxonomist audit --project {project}` lists labels that may be wrong; "
            f"`taxonomist models show {version.version} --project {project}` shows the comparison."
        )
    elif champion_before not in {None, version.version}:
        yield f"`taxonomist models rollback --project {project}` goes back to {model_version_name(champion_before)}."
    yield from _more_labels(manifest)
    if any(caveat.startswith(PRODUCTS_UNKNOWN) for caveat in manifest.caveats):
        yield (
            f"Name the products, or the figures may be far too good: "
            f"`taxonomist settings --project {project} product_field=FIELD`."
        )
    if served:
        yield f"`taxonomist predict FOLDER --project {project}` lets it predict your images."


def _more_labels(manifest: HeadManifest) -> Iterator[str]:
    if NEVER_TESTED in manifest.caveats:
        yield "Label more images: no test image is set aside yet, so that nothing is known about its quality."
    for control, calibration in sorted(manifest.calibration.items()):
        if not calibration.suggests_paths:
            yield f"Label {_missing(calibration)} for {control}: before, it suggests no single path."


def _missing(calibration: Calibration) -> str:
    if calibration.labels_needed and calibration.labels_needed > calibration.labels:
        return f"about {calibration.labels_needed - calibration.labels:,} more images"
    return "more images"
