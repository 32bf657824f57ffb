"""What waits for a person in a project.

`Need.detail` alone has words of ours, as logs have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taxonomist.backend.services import Services
from taxonomist.backend.status.counts import oldest_of
from taxonomist.backend.status.values import HomeStatus, ProjectStatus
from taxonomist.storage.catalog import Facet
from taxonomist.taxonomy.agreement import Reason
from taxonomist.taxonomy.errors import TaxonomistError


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


def project_needs(services: Services, home: HomeStatus, status: ProjectStatus) -> Iterator[Need]:
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
            return oldest_of(services, status.project, Facet("state", (reason.value,)))
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
