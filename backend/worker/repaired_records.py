"""Project records that no parser takes, or that are gone: each is made anew from its copy in the journal, a damaged one
also from what journal and registry know of the project."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from weakref import ReferenceType, ref

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.project_records import LOST_CHOICES, LOST_TOKEN, ProjectRecord
from taxonomist.backend.state.project_use import working_on
from taxonomist.storage.journal.events import is_label_studio
from taxonomist.taxonomy.errors import DamagedError, NotFoundError, StorageError
from taxonomist.taxonomy.label_config.writing import write_label_config
from taxonomist.taxonomy.paths import NO_ANSWER

log = logging.getLogger(__name__)

_HAS_TOKEN = "has_token"  # noqa: S105 - its name
_COUNTERS = {"labels_version", "changed_labels"}  # they are counted anew


def restore_missing(services: Services) -> None:
    """Make the records that are gone anew, before a request makes one that is empty. What fails, the worker repeats."""
    keeper = RecordKeeper(services)
    try:
        for project in keeper.missing():
            keeper.restore(project)
    except StorageError as error:
        log.error("project records that are gone are not made anew: %s", error)


class RecordKeeper:
    """Keeps copies of the records of one process's projects, and makes damaged ones anew."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Neither holds a labelling config: these may be large, and `ProjectRecords` bounds what it keeps of them.
        self._seen: dict[str, ReferenceType[ProjectRecord]] = {}
        self._copies: dict[str, bytes] = {}  # digests

    def keep(self, record: ProjectRecord) -> None:
        """Keep a copy of a record in the journal, where it differs from the one before. Raises `StorageError`."""
        project = record.project
        if project in self._seen and self._seen[project]() is record:
            return
        if project not in self._copies:
            self._copies[project] = _digest(self._services.journal.kept.record(project) or "")
        content = record.model_dump(mode="json", exclude={"api_key", *_COUNTERS})
        copy = json.dumps(content | {_HAS_TOKEN: record.api_key is not None})
        if (digest := _digest(copy)) != self._copies[project]:
            self._services.journal.kept.keep_record(project, copy)
            self._copies[project] = digest
        self._seen[project] = ref(record)

    def repair(self, project: str) -> None:
        """Move the damaged record of a project aside and make it anew, where anything is known of the project.

        A record of a newer release stays. Raises `StorageError`.
        """
        record = self._copied(project) or self._known(project)
        aside = self._services.projects.replace_damaged(project, record)
        if aside is None:
            return
        if record is None:
            log.error("project %s: its record was damaged and is %s now; nothing else is known of it", project, aside)
            return
        log.error(
            "project %s: its record was damaged and is %s now; it is made anew, %s", project, aside, _lost(record)
        )

    def missing(self) -> list[str]:
        """Return the projects whose record is gone, but which were not forgotten. Raises `StorageError`."""
        return [
            project for project in self._services.journal.kept.recorded() if not self._services.projects.exists(project)
        ]

    def restore(self, project: str) -> None:
        """Make a record that is gone anew. Raises `ConflictError` while the project is being forgotten,
        and `StorageError`."""
        with working_on(self._services.home, project):
            record = self._copied(project) or self._known(project) or ProjectRecord(project=project)
            if self._services.projects.add_missing(record):
                log.error("project %s: its record was gone; it is made anew, %s", project, _lost(record))

    def _copied(self, project: str) -> ProjectRecord | None:
        """Return the record as the journal has it, None without a copy that can be read."""
        copy = self._services.journal.kept.record(project)
        if copy is None:
            return None
        try:
            content = json.loads(copy)
            lost = (LOST_TOKEN,) if content.pop(_HAS_TOKEN) else ()
            record = ProjectRecord.model_validate_json(json.dumps(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("project %s: the copy of its record cannot be read: %s", project, error)
            return None
        return record.model_copy(update={"lost": tuple({*record.lost, *lost}), **self._counted(project)})

    def _known(self, project: str) -> ProjectRecord | None:
        """Return what is known of a project without a copy of its record, None for one that is not known."""
        services = self._services
        sources = [name for name in services.journal.sources(project) if is_label_studio(name)]
        config = self._config(project)
        if project not in services.journal.withdrawal.projects() and not config:
            return None
        return ProjectRecord(
            project=project,
            label_config=config,
            created=(sources[-1].partition(".")[2] or None) if sources else None,
            lost=(LOST_TOKEN, LOST_CHOICES) if sources else (LOST_CHOICES,),
            **self._counted(project),
        )

    def _counted(self, project: str) -> dict[str, int]:
        documents = self._services.catalog.documents(project)
        changed = sum(
            document.projects[project].accepted != document.projects[project].trained for document in documents
        )
        return {"changed_labels": changed, "labels_version": time.time_ns() // 1_000_000}

    def _config(self, project: str) -> str:
        """Return a labelling config with the trees of the newest version that can be read; empty without one."""
        registry, name = self._services.registry, registry_name(project)
        for version in reversed(registry.versions(name)):
            try:
                trees = registry.get(name, version.version).head_manifest.trees
            except (DamagedError, NotFoundError) as error:
                log.warning("project %s: its taxonomy is not read from %s: %s", project, version.version, error)
                continue
            lines = dict.fromkeys(["<View>"])
            for tree in trees:
                paths = [path for path in tree.paths if path != NO_ANSWER]
                _, image, *rest, _ = write_label_config(paths, control=tree.control, image=tree.to_name).split("\n")
                lines |= dict.fromkeys([image, "\n".join(rest)])
            return "\n".join([*lines, "</View>"]) if trees else ""
        return ""


def _lost(record: ProjectRecord) -> str:
    return f"give again: {', '.join(record.lost)}" if record.lost else "nothing is lost"


def _digest(copy: str) -> bytes:
    return hashlib.sha256(copy.encode("utf-8", "surrogatepass")).digest()
