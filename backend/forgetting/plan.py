"""What forgetting a project or an image would remove, counted before anything is removed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rapidfuzz import fuzz, process

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobState
from taxonomist.storage.addresses import file_address
from taxonomist.storage.catalog import ImageDocument, image_id
from taxonomist.storage.home.image_files import find_image_files
from taxonomist.storage.journal import is_label_studio
from taxonomist.taxonomy.errors import ConfigError, ConflictError, NotFoundError

_LOOKED_AT = 20_000  # documents, for the nearest address of one that is not known
_NEAREST = 3


@dataclass(frozen=True)
class Count:
    """How many things of one kind go, and their bytes; None where bytes are not known."""

    count: int
    bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What goes, by kind, and what stays, in sentences.

    `project` or `image` (an id) names what is forgotten. `images` are the ids of the images that go, because nothing
    else uses them, `projects` those that the image leaves. `backups` are the folders that still have rows of it.
    """

    project: str | None
    image: str | None
    images: tuple[str, ...]
    projects: tuple[str, ...] = ()
    goes: dict[str, Count] = field(default_factory=dict)
    stays: tuple[str, ...] = ()
    backups: tuple[Path, ...] = ()


def known_projects(services: Services) -> list[str]:
    """Return every project of which anything is stored."""
    heads = [name.removeprefix("project-") for name in services.registry.names() if name.startswith("project-")]
    records = [record.project for record in services.projects]
    return sorted({*records, *heads, *services.journal.withdrawal.projects(), *services.catalog.projects()})


def plan_project(services: Services, project: str) -> Plan:
    """Return what forgetting the project would remove.

    Raises `NotFoundError` with the nearest names for a project that is not known, and `ConflictError` while a job of it
    runs.
    """
    known = known_projects(services)
    if project not in known:
        nearest = [name for name, _, _ in process.extract(project, known, limit=_NEAREST, score_cutoff=60)]
        raise NotFoundError(
            f"Project {project} is not known.", hint=_hint(nearest, "Known projects", known[:20] or ["none"])
        )
    check_jobs(services, project)
    withdrawal = services.journal.withdrawal
    images, labelled, others = withdrawal.images(project), 0, set()
    for document in services.catalog.documents(project):
        images.add(document.id)
        labelled += document.projects[project].labelled
        if document.projects.keys() - {project}:
            others.add(document.id)
    others |= withdrawal.used(images, but=project)
    images -= others
    rows = withdrawal.rows(project)
    versions = services.registry.versions(registry_name(project))
    goes = {
        "images": Count(len(images)),
        "accepted labels": Count(labelled),
        "tasks": Count(rows.tasks),
        "annotations": Count(rows.annotations),
        "events": Count(rows.events),
        **_files(services, images),
        "model versions": Count(
            len(versions), sum(entry.size for version in versions for entry in version.files.values())
        ),
        "suggestions": Count(services.suggestions.count(project)),
        "actions that labelled many tasks": Count(services.bulk_labels.count(project)),
        "jobs": Count(services.jobs.count(project)),
        "tasks that wait for a suggestion": Count(services.unfilled.count(project)),
        "project records": Count(int(services.projects.exists(project))),
    }
    stays = [f"{len(others)} images stay, because another project uses them."] if others else []
    stays += _always_stays(services, images, ())
    return Plan(project, None, tuple(sorted(images)), (project,), goes, tuple(stays), tuple(backups(services)))


def plan_image(services: Services, address: str) -> Plan:
    """Return what forgetting an image would remove; `address` is its address, its id, or the path of its file.

    Raises `NotFoundError` with the nearest addresses, and `ConflictError` for an image in a task with others.
    """
    image, document, projects = _find_image(services, address)
    withdrawal = services.journal.withdrawal
    rows = [withdrawal.rows(project, [image]) for project in projects]
    goes = {
        "images": Count(1),
        "accepted labels": Count(sum(labels.labelled for labels in document.projects.values())),
        "tasks": Count(sum(found.tasks for found in rows)),
        "annotations": Count(sum(found.annotations for found in rows)),
        "events": Count(sum(found.events for found in rows)),
        **_files(services, [image]),
        "suggestions": Count(services.suggestions.count_of_image(image)),
    }
    stays = []
    for project in projects:
        if others := withdrawal.tasks_with_others(project, image):
            numbers = ", ".join(task for _, task in others)
            raise ConflictError(
                f"Task {numbers} of project {project} shows the image beside others.",
                hint="Delete the task in Label Studio, or remove it from the file that was imported.",
            )
        tasks = list(services.journal.tasks(project, image))
        own = [task.task_id for task in tasks if is_label_studio(task.source)]
        files = sorted({task.source for task in tasks if not is_label_studio(task.source)})
        if own:
            stays.append(
                f"Task {', '.join(own)} of project {project} in Label Studio shows the image: delete it there, or the "
                "next pass brings the image back."
            )
        if files:
            stays.append(
                f"The image is in what was imported into project {project} ({', '.join(files)}): remove it there, or "
                "the next import brings it back."
            )
    left = document
    for project in document.projects:
        left = left.without_project(project)
    if document.etag and not left.unused:
        stays.append(f"The document {image} stays, since other programs have written it, or into it.")
    stays += _always_stays(services, [image], projects)
    return Plan(None, image, (image,), tuple(projects), goes, tuple(stays), tuple(backups(services)))


def backups(services: Services) -> Iterator[Path]:
    """Yield the folders with databases as they were before a migration."""
    yield from sorted(path for path in services.home.glob("before-version-*") if path.is_dir())


def check_jobs(services: Services, project: str) -> None:
    """Raise `ConflictError` while a worker runs a job of the project."""
    age = heartbeat.age(services.home)
    if age is None or age > heartbeat.FRESH_S:
        return  # no worker lives, so a job that seems to run was interrupted
    running = [job.kind.value for job in services.jobs.latest(project) if job.state is JobState.RUNNING]
    if running:
        raise ConflictError(
            f"A job of project {project} is running ({', '.join(running)}).",
            hint="Wait until it ends, or stop the worker and wait half a minute.",
        )


def _files(services: Services, images: Collection[str]) -> dict[str, Count]:
    found = find_image_files(services.home, frozenset(images))
    documents = sum(len(services.catalog.get_many(chunk)) for chunk in _chunks(sorted(images)))
    return {
        "documents": Count(documents),
        "embeddings": Count(found.embeddings.rows, found.embeddings.bytes),
        "prepared images": Count(found.prepared.rows, found.prepared.bytes),
        "cached files": Count(found.cached.rows, found.cached.bytes),
    }


def _chunks(images: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(images), 500):
        yield images[start : start + 500]


def _always_stays(services: Services, images: Collection[str], projects: Collection[str]) -> Iterator[str]:
    """Yield what no run of the command can remove."""
    if images:
        yield "The part of the split (test or train) of each image stays, under a hash of its id."
    trained = [project for project in projects if services.registry.versions(registry_name(project))]
    if trained:
        yield (
            f"The versions of the model of project {', '.join(trained)} keep the ids, file hashes and labels of the "
            "images that they were trained on, until the project is forgotten."
        )
    if services.settings.models_container:
        yield "Other machines keep their copies until azure/ in their home folder is deleted."


def _find_image(services: Services, address: str) -> tuple[str, ImageDocument, list[str]]:
    """Return the id of an image, its document, and the projects that have it."""
    path = Path(address).absolute().as_posix()
    candidates = dict.fromkeys([address, image_id(address), image_id(file_address(path)), image_id(path)])
    found = []
    for id in candidates:
        document = services.catalog.get(id)
        projects = services.journal.withdrawal.projects_of(id)
        if document is not None or projects:
            document = document or ImageDocument(id=id)
            found.append((id, document, sorted({*projects, *document.projects})))
    if len(found) > 1:
        names = " or ".join(f"{document.uri_orig or id} ({id})" for id, document, _ in found)
        raise ConfigError(f"{address!r:.300} may be {names}.", hint="Give the id in the brackets.")
    if found:
        return found[0]
    known = {}
    for document in islice(services.catalog.documents(), _LOOKED_AT):
        for name in (document.id, document.uri_orig, *(labels.uri for labels in document.projects.values())):
            if name:
                known[name] = document.id
    nearest = process.extract(address, list(known), scorer=fuzz.ratio, limit=_NEAREST, score_cutoff=60)
    raise NotFoundError(
        f"There is no image {address!r:.300}.",
        hint=_hint([name for name, _, _ in nearest], "Give its address or its id", []),
    )


def _hint(nearest: list[str], otherwise: str, known: list[str]) -> str:
    if nearest:
        return f"Did you mean {' or '.join(nearest)}?"
    return f"{otherwise}: {', '.join(known)}." if known else f"{otherwise}."
