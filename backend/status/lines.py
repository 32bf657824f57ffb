"""The status as text for a project lead: one fact per line, so that it can be read in a narrow terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import OutsideNode, count_labels
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
from taxonomist.taxonomy.names import shorten

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def status_lines(status: HomeStatus, now: datetime | None = None) -> Iterator[str]:
    """Yield the lines of the status. `now` is the time that ages count from."""
    now = now or datetime.now(UTC)
    yield f"Home: {status.home}"
    if status.worker_runs:
        yield "Worker: runs"
    elif status.worker_beat_s is None:
        yield "Worker: does not run"
    else:
        yield f"Worker: does not run; it was seen {_age(status.worker_beat_s)} ago"
    if status.events_to_fold:
        yield f"Events that the worker has not read yet: {status.events_to_fold}"
    yield from _problems(status.problems, "")
    yield from _set_aside(status.set_aside, "", now, "taxonomist retry")
    if not status.projects:
        yield "There is no project yet: run `taxonomist import` or `taxonomist connect` first."
    for project in status.projects:
        yield ""
        yield from _project(project, now, worker_runs=status.worker_runs)


def _project(status: ProjectStatus, now: datetime, *, worker_runs: bool) -> Iterator[str]:
    yield f"Project {status.project}"
    if status.damaged:
        yield f"  Damaged: {status.damaged}"
    if status.lost:
        yield f"  Lost: {status.lost}"
    yield from _problems(status.problems, "  ")
    if status.set_aside:
        yield "  Set aside, since it could not be processed"
        yield from _set_aside(status.set_aside, "    ", now, f"taxonomist retry --project {status.project}")
    if status.images is not None:
        yield "  Taken"
        yield from _taken(status.images, status.sources, now)
        if status.images.to_decide:
            yield f"    whose label {_what_decides(status.waiting, worker_runs)}: {status.images.to_decide}"
        yield "  Not taken"
        given_up = status.waiting.outside.accepted if status.waiting else ()
        yield from _not_taken(status.images, status.sources, given_up)
    if status.damaged:
        return
    if status.waiting is not None:
        yield "  Waits for a person"
        yield from list(_waiting(status.waiting, status.project)) or ["    nothing"]
    yield "  Model"
    yield from _model(status.model, status.changed_labels, now)
    yield "  Work"
    yield from _work(status, now)


def _problems(problems: tuple[str, ...], indent: str) -> Iterator[str]:
    for problem in problems:
        yield f"{indent}Cannot be read: {problem}"


def _set_aside(items: tuple[SetAsideStatus, ...], indent: str, now: datetime, retry: str) -> Iterator[str]:
    """Yield what is set aside, the newest of each kind, and how it is tried again."""
    for kind, count in sorted(Counter(item.kind for item in items).items()):
        newest = next(item for item in items if item.kind == kind)
        where = f" of project {newest.project}" if newest.project and not indent else ""
        more = f", and {count - 1} more" if count > 1 else ""
        yield f"{indent}{kind} {newest.key}{where}{more}, since {_ago(newest.since, now)}: {newest.reason}"
    if items:
        yield f"{indent}  try again: {retry}"


def _taken(images: ImagesStatus, sources: tuple[SourceStatus, ...], now: datetime) -> Iterator[str]:
    yield f"    images: {images.images}, of which {images.labelled} have an accepted label"
    for source in sources:
        name = f"Label Studio {source.name}".strip() if source.label_studio else source.name
        read = f"; since {_ago(source.read_at, now)}" if source.read_at and not source.label_studio else ""
        yield f"    from {name}: {source.tasks} tasks or images, {source.annotations} annotations{read}"


def _what_decides(waiting: WaitingStatus | None, worker_runs: bool) -> str:
    """Return what images with changed annotations wait for. Without a taxonomy or a worker, nothing decides them."""
    if waiting is None:  # the project's record is damaged
        return "waits until the record of the project can be read"
    if waiting.no_taxonomy or waiting.config_refused:
        return "waits for a taxonomy"
    return "is being decided" if worker_runs else "waits for the worker, which does not run"


def _not_taken(
    images: ImagesStatus, sources: tuple[SourceStatus, ...], given_up: tuple[OutsideNode, ...]
) -> Iterator[str]:
    lines = [f"    images without a label: {count} × {_words(reason)}" for reason, count in _most(images.without_label)]
    for source in sources:
        lines += [f"    left out of {source.name}: {count} × {reason}" for reason, count in _most(source.left_out)]
    lines += [
        f"    given up, since the node is gone: {count_labels(node.labels)} on {shorten(node.name)}"
        for node in given_up
    ]
    yield from lines or ["    nothing"]


def _waiting(waiting: WaitingStatus, project: str) -> Iterator[str]:
    if waiting.no_taxonomy:
        yield f"    a taxonomy: {waiting.no_taxonomy}"
    if waiting.config_refused:
        yield f"    the labelling config cannot be used: {waiting.config_refused}"
    if waiting.training_held:
        total = sum(node.labels for node in waiting.outside.gone)
        yield f"    {count_labels(total)} on nodes that the taxonomy has no longer; training waits"
        yield from (_outside(node) for node in waiting.outside.gone)
        yield f"      see what they became: taxonomist taxonomy diff --project {project}"
        yield f"      decide: taxonomist labels rename|accept-loss … --project {project}"
    if waiting.outside.unknown:
        total = sum(node.labels for node in waiting.outside.unknown)
        yield f"    {count_labels(total)} with names that the taxonomy never had"
        yield from (_outside(node) for node in waiting.outside.unknown)
    if waiting.second_opinion:
        yield f"    second opinion: {_images(waiting.second_opinion)}"
    if waiting.missing_annotators:
        yield f"    {waiting.missing_annotators}"
    if waiting.disagreement:
        yield f"    disagreement: {_images(waiting.disagreement)}"
    if waiting.candidate:
        yield f"    version {waiting.candidate} is trained and not promoted"
        if waiting.candidate_reason:
            yield f"      {waiting.candidate_reason}"
        yield f"      decide: taxonomist models promote {waiting.candidate} --project {project}"


def _outside(node: OutsideNode) -> str:
    near = f", nearest: {shorten(' / '.join(node.nearest))}" if node.nearest else ""
    return f"      {shorten(node.name)}: {node.labels}{near}"


def _model(model: ModelStatus | None, changed: int, now: datetime) -> Iterator[str]:
    if model is None:
        yield "    none is served yet; look-alikes vote"
    else:
        made = f", trained {_ago(datetime.fromisoformat(model.created_at), now)}" if model.created_at else ""
        yield f"    served: {model.name}{made}"
        products = "" if any("unknown" in caveat for caveat in model.caveats) else " of products that it has not seen"
        on = f" on {model.test_images} test images{products}" if model.test_images else ""
        for control, score in model.macro_f1.items():
            yield f"    macro-F1 of {control}: {score:.3f}{on}"
        for caveat in model.caveats:
            yield f"    {caveat}"
        for control, what in model.promise.items():
            yield f"    suggestions for {control}"
            yield f"      {what}"
        for count in model.answers:
            kind = "that were not shown" if count.blind else "that were shown"
            yield f"    suggestions of level {count.level} {kind}: {count.right} of {count.answered} were right"
        for control, what in model.broken.items():
            yield f"    the promise for {control} is broken"
            yield f"      {what}"
    if changed:
        yield f"    labels that changed since the last training: {changed}"


def _work(status: ProjectStatus, now: datetime) -> Iterator[str]:
    if status.last_sync:
        yield f"    last pass over Label Studio: {_job(status.last_sync, now)}"
    for job in status.jobs:
        yield f"    {job.kind}: {job.state} since {_ago(job.at, now)}: {job.outcome}"
    if status.unfilled_tasks:
        yield f"    tasks that wait for a suggestion: {status.unfilled_tasks}"
    yield (
        f"    last error: {status.last_error.kind}, {_job(status.last_error, now)}"
        if status.last_error
        else ("    no job has failed")
    )


def _job(job: JobStatus, now: datetime) -> str:
    return f"{_ago(job.at, now)}: {job.outcome}"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _ago(time: datetime, now: datetime) -> str:
    """Return a time and its age: `2026-11-27 04:10 UTC (2 hours ago)`."""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({_age((now - time).total_seconds())} ago)"


def _age(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "0 seconds"
