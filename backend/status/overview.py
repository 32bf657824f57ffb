"""What a project lead sees of a project: the champion and its promise, its versions, what waits for whom.

All of it is values: texts are made where they are shown, in the language of the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import Job, JobState
from taxonomist.backend.status.collect import collect_status
from taxonomist.backend.status.counts import suggested_of
from taxonomist.backend.status.needs import Need, project_needs
from taxonomist.backend.status.nodes import NodeLabels, nodes_with_labels
from taxonomist.backend.status.values import ProjectStatus
from taxonomist.backend.status.versions import VersionFigures, project_versions
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.numbers import is_number


@dataclass(frozen=True)
class Work:
    """A job that waits or runs. `done` is the share of its work, 0 to 1; `since` is when it began, or was asked for."""

    kind: str
    runs: bool
    done: float
    since: float
    step: str


@dataclass(frozen=True)
class Overview:
    """A project as its lead sees it.

    `suggested` images have a suggestion of the champion. `retrain_every` changed labels start a training.
    """

    status: ProjectStatus
    title: str
    label_studio: str | None
    champion: VersionFigures | None
    versions: tuple[VersionFigures, ...]
    previous: str | None
    nodes: tuple[NodeLabels, ...]
    needs: tuple[Need, ...]
    work: tuple[Work, ...]
    suggested: int
    retrain_every: int

    @property
    def project(self) -> str:
        """The number in Label Studio, or the name."""
        return self.status.project


@dataclass(frozen=True)
class ProjectFrame:
    """What the head of each page of a project shows."""

    project: str
    title: str
    label_studio: str | None


@dataclass(frozen=True)
class ProjectRow:
    """A project in the list of all."""

    project: str
    title: str
    images: int | None
    labelled: int | None
    champion: str | None
    needs: tuple[Need, ...]


def collect_projects(services: Services, projects: Iterable[str] | None = None) -> list[ProjectRow]:
    """Return the projects of a home, or these of them, in the order of their names.

    Raises what `collect_status` raises.
    """
    status = collect_status(services)
    wanted = None if projects is None else set(projects)
    return [
        ProjectRow(
            project=found.project,
            title=_title(services, found.project),
            images=found.images.images if found.images else None,
            labelled=found.images.labelled if found.images else None,
            champion=found.model.version if found.model else None,
            needs=tuple(project_needs(services, status, found)),
        )
        for found in status.projects
        if wanted is None or found.project in wanted
    ]


def collect_frame(services: Services, project: str) -> ProjectFrame:
    """Return the title of a project, and its address in Label Studio."""
    return ProjectFrame(project, _title(services, project), label_studio_address(services, project))


def collect_overview(services: Services, project: str) -> Overview:
    """Return the overview of a project.

    Raises `NotFoundError` for an unknown project, and what `collect_status` raises.
    """
    status = collect_status(services, project)
    (found,) = status.projects
    versions = () if found.damaged else tuple(project_versions(services, project, found))
    champion = next((version for version in versions if version.served), None)
    jobs = services.jobs.latest(project, limit=200) if _has(services, "jobs.sqlite") else []
    return Overview(
        status=found,
        title=_title(services, project),
        label_studio=label_studio_address(services, project),
        champion=champion,
        versions=versions,
        previous=services.registry.previous(registry_name(project)),
        nodes=() if found.damaged else tuple(nodes_with_labels(services, project)),
        needs=tuple(project_needs(services, status, found)),
        work=tuple(_work(jobs)),
        suggested=suggested_of(services, project, champion.name) if champion else 0,
        retrain_every=services.settings.retrain_every,
    )


def _has(services: Services, name: str) -> bool:
    return (services.settings.home / name).exists()


def _title(services: Services, project: str) -> str:
    try:
        return services.projects.get(project).title or project
    except DamagedError:
        return project


def label_studio_address(services: Services, project: str) -> str | None:
    """Return the address of a project in Label Studio, None for one that was imported."""
    try:
        url, _ = services.label_studio(project)
    except DamagedError:
        return None
    return f"{url.rstrip('/')}/projects/{project}/data" if url and is_number(project) else None


def _work(jobs: list[Job]) -> Iterator[Work]:
    for job in jobs:
        if job.state in {JobState.WAITING, JobState.RUNNING}:
            runs = job.state is JobState.RUNNING
            yield Work(job.kind.value, runs, job.done if runs else 0.0, job.started_at or job.asked_at, job.step)
