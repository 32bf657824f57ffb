"""Collects the status of a home from its stores. It counts in SQL, reads no images and no models, and changes nothing.

A part that cannot be read, such as a catalogue in Azure without network, is missing and has its reason in `problems`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.acceptance import describe_floor
from taxonomist.backend.labelling.missing_annotators import fewer_annotators
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import LabelsOutside, labels_outside, training_hold
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import Job, JobKind, JobState
from taxonomist.backend.state.project_records import ProjectRecord, what_to_give_again
from taxonomist.backend.status.counts import answers_of, states_of
from taxonomist.backend.status.values import (
    HomeStatus,
    ImagesStatus,
    JobStatus,
    ModelStatus,
    ProjectStatus,
    SetAsideStatus,
    SourceStatus,
    WaitingStatus,
)
from taxonomist.storage.catalog.facets import LABELLED
from taxonomist.storage.home.version_file import VERSION, home_version
from taxonomist.storage.journal import is_label_studio
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import TOGETHER
from taxonomist.storage.set_aside import Item
from taxonomist.taxonomy.agreement import Reason
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TaxonomistError
from taxonomist.training.heads.promotion.unfinished import newest_candidate

Value = TypeVar("Value")


def collect_status(services: Services, project: str | None = None) -> HomeStatus:
    """Return the status of the home folder, with one project or with all of them.

    Raises `NotFoundError` for a folder that is no home and for a project that is not known, and `ConfigError` for a
    home of an earlier release, since reading it would migrate it.
    """
    _check_home(services)
    damaged = services.projects.damaged()
    known = {record.project: record for record in services.projects}
    known |= {name: ProjectRecord(project=name) for name in damaged}
    if project is not None and project not in known:
        raise NotFoundError(f"Project {project} is not known.", hint=f"Known projects: {', '.join(known) or 'none'}.")
    problems: list[str] = []
    age = heartbeat.age(services.settings.home)
    has_journal = _has(services, "journal.sqlite")
    set_aside = _read(problems, services.journal.set_aside.items, list[Item]()) if has_journal else []
    of_project = {name: tuple(_set_aside(item) for item in set_aside if item.project == name) for name in known}
    return HomeStatus(
        home=str(services.settings.home),
        worker_runs=age is not None and age <= heartbeat.FRESH_S,
        worker_beat_s=age,
        events_to_fold=_read(problems, services.journal.pending, 0) if has_journal else 0,
        projects=tuple(
            replace(
                _damaged(services, record, damaged[name]) if name in damaged else _project(services, record),
                set_aside=of_project[name],
            )
            for name, record in sorted(known.items())
            if project in {None, name}
        ),
        problems=tuple(problems),
        set_aside=tuple(_set_aside(item) for item in set_aside if item.project not in known),
    )


def _check_home(services: Services) -> None:
    home = services.settings.home
    version = home_version(home) if home.is_dir() else None
    if version is None:
        raise NotFoundError(f"There is no home folder {home}.", hint="`taxonomist import` or `connect` makes one.")
    if version < VERSION:
        raise ConfigError(
            f"The home folder {home} is that of an earlier release, and status changes nothing.",
            hint="Any other command migrates it, such as `taxonomist doctor`.",
        )


def _project(services: Services, record: ProjectRecord) -> ProjectStatus:
    project, problems = record.project, list[str]()
    has_journal, has_jobs = _has(services, "journal.sqlite"), _has(services, "jobs.sqlite")
    images = _read(problems, lambda: _images(services, project, has_journal), None)
    versions = _read(problems, lambda: services.registry.versions(registry_name(project)), list[ModelVersion]())
    champion = _read(problems, lambda: services.registry.champion(registry_name(project)), None)
    served = next((version for version in versions if version.version == champion), None)
    jobs = _read(problems, lambda: services.jobs.latest(project, limit=200), list[Job]()) if has_jobs else []
    return ProjectStatus(
        project=project,
        sources=_read(problems, lambda: _sources(services, record), ()) if has_journal else (),
        images=images,
        waiting=_read(problems, lambda: _waiting(services, record, images), None),
        model=_read(problems, lambda: _model(services, project, served) if served else None, None),
        changed_labels=record.changed_labels,
        unfilled_tasks=_read(problems, lambda: services.unfilled.count(project), 0) if has_jobs else 0,
        jobs=tuple(_job(job) for job in jobs if job.state in {JobState.WAITING, JobState.RUNNING}),
        last_sync=next((_job(job) for job in jobs if job.kind is JobKind.SYNC and job.ended_at is not None), None),
        last_error=_last_error(jobs),
        problems=tuple(problems),
        lost=what_to_give_again(record),
    )


def _damaged(services: Services, record: ProjectRecord, error: TaxonomistError) -> ProjectStatus:
    """Return what is kept of a project whose record cannot be read; `record` is an empty one."""
    problems, has_journal = list[str](), _has(services, "journal.sqlite")
    return ProjectStatus(
        project=record.project,
        sources=_read(problems, lambda: _sources(services, record), ()) if has_journal else (),
        images=_read(problems, lambda: _images(services, record.project, has_journal), None),
        problems=tuple(problems),
        damaged=str(error),
    )


def _has(services: Services, name: str) -> bool:
    """Return whether the home has a file: reading it would make it."""
    return (services.settings.home / name).exists()


def _read(problems: list[str], read: Callable[[], Value], default: Value) -> Value:
    try:
        return read()
    except TaxonomistError as error:
        problems.append(str(error))
        return default


def _sources(services: Services, record: ProjectRecord) -> tuple[SourceStatus, ...]:
    counts = {found.source: found for found in services.journal.counts.sources(record.project)}
    statuses = []
    for source in sorted({*counts, *record.imports}):
        found, last = counts.get(source), record.imports.get(source)
        statuses.append(
            SourceStatus(
                name=source,
                label_studio=is_label_studio(source),
                tasks=found.tasks if found else 0,
                annotations=found.annotations if found else 0,
                read_at=last.at if last else None,
                entries=last.entries if last else None,
                left_out=last.left_out if last else {},
            )
        )
    return tuple(statuses)


def _images(services: Services, project: str, has_journal: bool) -> ImagesStatus:
    settings = services.settings
    to_decide = services.journal.counts.dirty(project) if has_journal else 0
    if not (settings.cosmos_connection_string or settings.cosmos_endpoint or _has(services, "catalog.sqlite")):
        return ImagesStatus(images=0, labelled=0, without_label={}, to_decide=to_decide)
    states = states_of(services, project)
    return ImagesStatus(
        images=sum(states.values()),
        labelled=states.get(LABELLED, 0),
        without_label=_by_reason(states),
        to_decide=to_decide,
    )


def _by_reason(states: Mapping[str, int]) -> dict[str, int]:
    counts = {reason: count for reason, count in states.items() if reason != LABELLED}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _waiting(
    services: Services,
    record: ProjectRecord,
    images: ImagesStatus | None,
) -> WaitingStatus:
    project, reasons = record.project, images.without_label if images else {}
    second_opinion = reasons.get(Reason.TOO_FEW_ANNOTATORS, 0)
    refused, missing, outside, held = None, None, LabelsOutside(), None
    if record.label_config or (images and (images.images or images.to_decide)):
        try:
            services.label_config(project)
        except ConfigError as error:
            refused, missing = (str(error), None) if record.label_config else (None, str(error))
        else:
            if _has(services, "journal.sqlite"):
                outside, held = labels_outside(services, project), training_hold(services, project)
    by_hand = services.project_settings(project).promotion == "manual"
    candidate = newest_candidate(services.registry, registry_name(project)) if by_hand else None
    promotion = candidate.head_manifest.promotion if candidate else None
    return WaitingStatus(
        second_opinion=second_opinion,
        disagreement=reasons.get(Reason.NO_AGREEMENT, 0),
        missing_annotators=_missing(services, project) if second_opinion else None,
        outside=outside,
        training_held=str(held) if held else None,
        candidate=candidate.version if candidate else None,
        config_refused=refused,
        no_taxonomy=missing,
        candidate_reason=promotion.reason if promotion else None,
    )


def _missing(services: Services, project: str) -> str | None:
    """Return that fewer people annotate than a label needs, None where there are enough of them."""
    needed, people = services.project_settings(project).annotators, services.journal.counts.people(project)
    if people >= needed:
        return None
    who = "One person annotates" if people == 1 else f"{people} people annotate"
    return f"{who}, and a label needs {needed} who agree. {fewer_annotators(project)}"


def _model(services: Services, project: str, served: ModelVersion) -> ModelStatus:
    manifest, name = served.head_manifest, model_version_name(served.version)
    has_suggestions = _has(services, "suggestions.sqlite")
    floors = services.suggestions.floors(project, name) if has_suggestions else {}
    return ModelStatus(
        version=served.version,
        name=name,
        created_at=manifest.created_at,
        macro_f1={control: round(metrics.macro_f1, 4) for control, metrics in manifest.metrics.items()},
        test_images=manifest.tested.images if manifest.tested else None,
        test_products=manifest.tested.products if manifest.tested else None,
        caveats=manifest.caveats,
        answers=answers_of(services, project, name) if has_suggestions else (),
        broken={control: describe_floor(floor) for control, floor in sorted(floors.items())},
        promise={control: calibration.describe() for control, calibration in sorted(manifest.calibration.items())}
        | {f"{control}, {TOGETHER}": found.describe() for control, found in sorted(manifest.fused.items())},
    )


def _set_aside(item: Item) -> SetAsideStatus:
    return SetAsideStatus(**{**vars(item), "kind": item.kind.value, "since": datetime.fromtimestamp(item.since, UTC)})


def _job(job: Job) -> JobStatus:
    at = datetime.fromtimestamp(job.ended_at or job.started_at or job.asked_at, UTC)
    return JobStatus(job.kind.value, job.state.value, at, job.outcome or job.step or job.reason)


def _last_error(jobs: list[Job]) -> JobStatus | None:
    """Return the last job that failed, unless a later one of its kind succeeded."""
    done: set[JobKind] = set()
    for job in jobs:  # newest first
        if job.state is JobState.FAILED and job.kind not in done:
            return _job(job)
        if job.state is JobState.DONE:
            done.add(job.kind)
    return None
