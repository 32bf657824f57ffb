"""Checks of a project's model: whether it exists, its files are intact, and it fits the current taxonomy."""

from __future__ import annotations

from collections.abc import Iterator

from taxonomist.backend.connection.doctor.result import Check, failed, passed, warned
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.acceptance import describe_floor
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import NEVER_TESTED
from taxonomist.taxonomy.errors import ConfigError, DamagedError
from taxonomist.taxonomy.label_config import parse_label_config
from taxonomist.taxonomy.paths import NO_ANSWER
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.promotion.unfinished import newest_candidate


def checks(services: Services, project: str) -> Iterator[Check]:
    """Yield the checks of one project's model."""
    name = registry_name(project)
    version = services.registry.champion(name)
    if version is None:
        yield _no_model(services, project)
        return
    try:
        model = services.registry.get(name, version)
        services.registry.verify(model)
    except DamagedError as error:
        yield failed(
            "model", str(error.args[0]), f"taxonomist models rollback --project {project}, or taxonomist train"
        )
        return
    yield passed("model", f"{model_version_name(version)} is served, its files are intact")
    yield from _figures(model, project)
    yield from _suggestions(model, project)
    yield from _promise(services, project, model_version_name(version))
    yield _fit(services.projects.get(project), model, project)
    yield from _waiting(services, project)


def _no_model(services: Services, project: str) -> Check:
    labelled = services.catalog.count(project, labelled=True)
    last = next(iter(services.jobs.latest(project, JobKind.TRAIN, limit=1)), None)
    detail = f"there is none yet; {labelled} images have an accepted label"
    if last is None:
        reason = "no training was requested"
    elif last.state is JobState.FAILED:
        reason = f"the last training failed: {last.outcome}"
    elif last.state is JobState.DONE:
        reason = last.outcome
    else:
        reason = f"a training is {last.state.value}"
    return warned("model", f"{detail}; {reason}", f"taxonomist train --project {project}, after more annotations")


def _figures(model: ModelVersion, project: str) -> Iterator[Check]:
    """Yield what the figures of the model rest on."""
    manifest = model.head_manifest
    scores = ", ".join(f"{control} {metrics.macro_f1:.3f}" for control, metrics in manifest.metrics.items())
    if manifest.tested is not None and manifest.tested.images:
        on = f" on {manifest.tested.images} test images of {manifest.tested.products} products"
    else:
        on = ""
    detail = "; ".join([*([f"macro-F1 {scores}{on}"] if scores else []), *manifest.caveats])
    if NEVER_TESTED in manifest.caveats:
        yield warned("model's figures", detail, "label images of more products, then train again")
    elif manifest.caveats:
        fix = (
            f"taxonomist settings --project {project} product_field=…, or import its manifest again with the column "
            "product; then train again"
        )
        yield warned("model's figures", detail, fix)
    else:
        yield passed("model's figures", detail)


def _suggestions(model: ModelVersion, project: str) -> Iterator[Check]:
    """Yield the controls for which there are not enough labels to suggest a path."""
    for control, calibration in sorted(model.head_manifest.calibration.items()):
        if not calibration.suggests_paths:
            fix = f"label more images, then taxonomist train --project {project}"
            yield warned("model's suggestions", f"{control}: {calibration.describe()}", fix)


def _promise(services: Services, project: str, version: str) -> Iterator[Check]:
    """Yield whether suggestions of the served version are right often enough, by what annotators answered."""
    counts = services.suggestions.answer_counts(project, version)
    seen = f"{sum(count.right for count in counts)} of {sum(count.answered for count in counts)} suggestions were right"
    if floors := services.suggestions.floors(project, version):
        what = "; ".join(f"{control}: {describe_floor(floor)}" for control, floor in sorted(floors.items()))
        yield warned("model's promise", f"{what}; {seen}", f"taxonomist train --project {project}, after more labels")
    elif counts:
        yield passed("model's promise", f"{seen}; nothing says that they are right too seldom")


def _waiting(services: Services, project: str) -> Iterator[Check]:
    """Yield that a newer version waits for a person, with the outcome of its comparison."""
    if services.project_settings(project).promotion != "manual":
        return
    candidate = newest_candidate(services.registry, registry_name(project))
    if candidate is not None:
        promotion = candidate.head_manifest.promotion
        detail = f"{model_version_name(candidate.version)} is trained and not promoted"
        yield warned(
            "promotion",
            f"{detail}: {promotion.reason}" if promotion else detail,
            f"taxonomist models promote {candidate.version} --project {project}",
        )


def _fit(record: ProjectRecord, model: ModelVersion, project: str) -> Check:
    if not record.label_config:
        return warned(
            "model's taxonomy", "the labelling config is not known", f"taxonomist connect --project {project}"
        )
    try:
        current = {tree.control: tree for tree in parse_label_config(record.label_config).trees}
    except ConfigError as error:
        return failed("model's taxonomy", str(error.args[0]), error.hint or "correct the labelling config")
    trained = model.head_manifest.trees_by_control
    new, gone = _paths(current) - _paths(trained), _paths(trained) - _paths(current)
    if new or gone:
        return warned(
            "model's taxonomy",
            f"has changed since the training: {len(new)} paths are new, {len(gone)} are gone",
            f"taxonomist train --project {project}",
        )
    return passed("model's taxonomy", "is the taxonomy of the labelling config")


def _paths(trees: dict[str, Tree]) -> set[tuple[str, ...]]:
    return {(control, *path) for control, tree in trees.items() for path in tree.paths if path != NO_ANSWER}
