"""What a project lead sees of a project: the champion and its promise, its versions, what waits for whom.

All of it is values: texts are made where they are shown, in the language of the reader. Only `Need.detail` has words of
ours, as logs have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import isfinite

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import Job, JobState
from taxonomist.backend.state.suggestions import AnswerCount
from taxonomist.backend.status.collect import collect_status
from taxonomist.backend.status.values import HomeStatus, ProjectStatus
from taxonomist.storage.catalog import Facet
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.agreement import Reason
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import ConfigError, DamagedError, TaxonomistError
from taxonomist.taxonomy.numbers import is_number
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_metrics import LevelMetrics


class NeedKind(StrEnum):
    """What waits for a person."""

    DAMAGED_RECORD = "damaged-record"
    LOST_RECORD = "lost-record"
    NO_TAXONOMY = "no-taxonomy"
    CONFIG_REFUSED = "config-refused"
    WORKER_STOPPED = "worker-stopped"
    GONE_NODES = "gone-nodes"
    UNKNOWN_NODES = "unknown-nodes"
    PROMISE_BROKEN = "promise-broken"
    CANDIDATE = "candidate"
    DISAGREEMENT = "disagreement"
    FEW_ANNOTATORS = "few-annotators"
    SECOND_OPINION = "second-opinion"
    UNREADABLE_ANNOTATIONS = "unreadable-annotations"
    UNREADABLE_IMAGES = "unreadable-images"
    SET_ASIDE = "set-aside"
    JOB_FAILED = "job-failed"
    NOT_READ = "not-read"


@dataclass(frozen=True)
class Need:
    """Something that waits for a person: how many of it, and since when, where that is known.

    `names` are nodes, controls, versions, or kinds of jobs. Of annotators there are `people`, and a label needs
    `needed`. `detail` is an error as a log has it.
    """

    kind: NeedKind
    count: int = 1
    since: datetime | None = None
    names: tuple[str, ...] = ()
    people: int = 0
    needed: int = 0
    detail: str | None = None


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
    `promoted` is the decision after its training, None where that is not recorded.
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
    challenger_f1: float | None
    champion_f1: float | None

    def right(self, *, blind: bool) -> tuple[int, int]:
        """Return how many suggestions were right and how many have an answer; `blind` are those that were not shown."""
        counts = [count for count in self.answers if count.blind == blind]
        return sum(count.right for count in counts), sum(count.answered for count in counts)


@dataclass(frozen=True)
class NodeLabels:
    """A node of the taxonomy, the number of images with an accepted label through it, and the nodes below it."""

    control: str
    path: TaxonomyPath
    labels: int
    below: tuple[NodeLabels, ...] = ()

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path[-1]


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
            needs=tuple(_needs(services, status, found)),
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
    versions = () if found.damaged else tuple(_versions(services, project, found))
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
        needs=tuple(_needs(services, status, found)),
        work=tuple(_work(jobs)),
        suggested=services.suggestions.count_images(project, champion.name) if champion else 0,
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


def _versions(services: Services, project: str, status: ProjectStatus) -> Iterator[VersionFigures]:
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
        answers=tuple(services.suggestions.answer_counts(project, name)),
        promoted=promotion.promoted if promotion else None,
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


def nodes_with_labels(services: Services, project: str) -> Iterator[NodeLabels]:
    """Yield the nodes of level 1 of each control, in the order of the taxonomy; those that it has not come last."""
    counts = services.catalog.count_nodes(project)
    paths: dict[tuple[str, TaxonomyPath], None] = {}
    try:
        for tree in services.label_config(project).trees:
            paths |= dict.fromkeys((tree.control, path) for path in tree.paths)
    except ConfigError:
        pass
    paths |= dict.fromkeys(sorted(counts))
    below: dict[tuple[str, TaxonomyPath], list[TaxonomyPath]] = {}
    for control, path in paths:
        below.setdefault((control, path[:-1]), []).append(path)

    def node(control: str, path: TaxonomyPath) -> NodeLabels:
        children = below.get((control, path), ())
        return NodeLabels(
            control, path, counts.get((control, path), 0), tuple(node(control, child) for child in children)
        )

    for control, path in paths:
        if len(path) == 1:
            yield node(control, path)


def _work(jobs: list[Job]) -> Iterator[Work]:
    for job in jobs:
        if job.state in {JobState.WAITING, JobState.RUNNING}:
            runs = job.state is JobState.RUNNING
            yield Work(job.kind.value, runs, job.done if runs else 0.0, job.started_at or job.asked_at, job.step)


def _needs(services: Services, home: HomeStatus, status: ProjectStatus) -> Iterator[Need]:
    """Yield what waits for a person, what stops everything else first."""
    if status.damaged:
        yield Need(NeedKind.DAMAGED_RECORD, detail=status.damaged)
    if status.lost:
        yield Need(NeedKind.LOST_RECORD, detail=status.lost)
    waiting, images = status.waiting, status.images
    if waiting and waiting.no_taxonomy:
        yield Need(NeedKind.NO_TAXONOMY, detail=waiting.no_taxonomy)
    if waiting and waiting.config_refused:
        yield Need(NeedKind.CONFIG_REFUSED, detail=waiting.config_refused)
    to_do = len(status.jobs) + (images.to_decide if images else 0)
    if to_do and not home.worker_runs:
        yield Need(NeedKind.WORKER_STOPPED, to_do)
    for kind, nodes in ((NeedKind.GONE_NODES, "gone"), (NeedKind.UNKNOWN_NODES, "unknown")):
        if waiting and (outside := getattr(waiting.outside, nodes)):
            yield Need(kind, sum(node.labels for node in outside), names=tuple(node.name for node in outside))
    if status.model and status.model.broken:
        yield Need(NeedKind.PROMISE_BROKEN, names=tuple(status.model.broken))
    if waiting and waiting.candidate:
        yield Need(NeedKind.CANDIDATE, names=(waiting.candidate,))
    yield from _undecided(services, status)
    by_kind: dict[str, list[datetime]] = {}
    for item in status.set_aside:
        by_kind.setdefault(item.kind, []).append(item.since)
    for kind_name, times in sorted(by_kind.items()):
        kind = NeedKind.UNREADABLE_IMAGES if kind_name == "image" else NeedKind.SET_ASIDE
        newest = next(item for item in status.set_aside if item.kind == kind_name)
        yield Need(kind, len(times), min(times), (kind_name,), detail=newest.reason)
    if status.last_error:
        error = status.last_error
        yield Need(NeedKind.JOB_FAILED, since=error.at, names=(error.kind,), detail=error.outcome)
    for problem in status.problems:
        yield Need(NeedKind.NOT_READ, detail=problem)


def _undecided(services: Services, status: ProjectStatus) -> Iterator[Need]:
    """Yield the images on whose label people have not agreed, or which too few of them have labelled."""
    reasons = status.images.without_label if status.images else {}
    if status.damaged or not reasons:
        return

    def since(reason: Reason) -> datetime | None:
        try:
            return services.catalog.oldest(status.project, Facet("state", (reason.value,)))
        except TaxonomistError:  # it is shown without
            return None

    if count := reasons.get(Reason.NO_AGREEMENT, 0):
        yield Need(NeedKind.DISAGREEMENT, count, since(Reason.NO_AGREEMENT))
    if count := reasons.get(Reason.TOO_FEW_ANNOTATORS, 0):
        people = services.journal.counts.people(status.project)
        needed = services.project_settings(status.project).annotators
        kind = NeedKind.FEW_ANNOTATORS if people < needed else NeedKind.SECOND_OPINION
        yield Need(kind, count, since(Reason.TOO_FEW_ANNOTATORS), people=people, needed=needed)
    if count := reasons.get(Reason.UNREADABLE, 0):
        yield Need(NeedKind.UNREADABLE_ANNOTATIONS, count, since(Reason.UNREADABLE))
