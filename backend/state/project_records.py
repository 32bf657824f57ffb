"""Project records: what the backend knows of each Label Studio project, and how to reach that Label Studio.

One JSON file per project, readable by its owner only, since it may hold a token. It is replaced in one step, so a
reader never sees half of it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from filelock import FileLock
from pydantic import BaseModel, SecretStr, field_serializer, model_validator

from taxonomist.backend.state.gone_nodes import gone_with, same_nodes
from taxonomist.backend.state.image_folders import ImageFolder
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.storage.files import storage_errors
from taxonomist.storage.journal import UNKNOWN_SOURCE, is_label_studio
from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.agreement import AnnotatorRates
from taxonomist.taxonomy.errors import BadRequestError, DamagedError, NewerFormatError, TaxonomistError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.label_config.former_nodes import LabelDecision, read_label_config
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_changes import NodeMatch

log = logging.getLogger(__name__)
LOST_TOKEN, LOST_CHOICES = "the token of Label Studio", "settings and decisions on renamed nodes"
_ANNOTATIONS = "annotations of "
_MOST_ADDRESSES = 10
_CACHED_BYTES = 64 * 1024 * 1024  # of the files of the records that are kept in memory
_MOST_BYTES = 200  # of a file name, with what is put before and after it
_MOST_CHARACTERS = 255  # of the name of a record, in which other letters take up to nine characters
_PROJECT = re.compile(r"[\w .@-]{1,100}", re.UNICODE)


def is_project(name: str) -> bool:
    """Return whether a text can name a project: Label Studio's number, or a short name without slashes."""
    if not _PROJECT.fullmatch(name) or name.strip(" .") == "" or len(name.encode()) > _MOST_BYTES:
        return False
    return len(_file_name(name)) <= _MOST_CHARACTERS


def _file_name(project: str) -> str:
    return f"{quote(project, safe=' @')}.json"


class LastImport(BaseModel, frozen=True):
    """What the last import from a source, or the last pass over it, read: `entries` are tasks or rows.

    `left_out` counts by reason what could not be used, `at` is when it was first read like this. `ids_within_tasks`:
    the source is a file whose annotation ids count anew within each task.
    """

    at: datetime
    entries: int
    annotations: int
    left_out: dict[str, int] = {}
    ids_within_tasks: bool = False


class DecidedAnew(BaseModel, frozen=True):
    """When all labels of the project were last decided again and not all stayed: of `images`, `changed` got another."""

    at: datetime
    images: int
    changed: int


class ProjectRecord(BaseModel, frozen=True):
    """A project as it was last seen. `created` distinguishes a new project from an old one with the same number."""

    project: str
    label_config: str = ""
    created: str | None = None
    title: str = ""  # as Label Studio has it
    label_studio_url: str | None = None
    label_studio_addresses: tuple[str, ...] = ()  # others by which it is known: those it calls itself, former ones
    label_studio_outer: str | None = None  # the one by which it calls itself, which browsers use
    api_key: SecretStr | None = None
    ml_backend: int | None = None
    former_keys_until: date | None = None  # the last day of keys of pages that earlier releases made; None: no end yet
    has_password: bool = False  # whether `connect` gave Label Studio the password for all its calls
    announced: str | None = None  # the model version that Label Studio shows
    announced_before: str | None = None  # the one that it showed before
    former_config: str = ""  # the last config that could be used, while the present one cannot
    gone: dict[str, tuple[TaxonomyPath, ...]] = {}  # by control, the nodes that the taxonomy had and has no longer
    matches: tuple[NodeMatch, ...] = ()  # what such nodes are matched to, as of the change that took them away
    label_decisions: tuple[LabelDecision, ...] = ()  # what a person decided about labels on such nodes
    imports: dict[str, LastImport] = {}  # by source
    image_folders: tuple[ImageFolder, ...] = ()  # the folders with the images of imported manifests
    labels_version: int = 0  # grows whenever an accepted label changes
    has_unanswered: bool = False  # whether annotators agreed to leave all controls of some image empty
    changed_labels: int = 0  # images whose accepted label differs from that of the last training
    settings: ProjectChoices = ProjectChoices()  # what differs from the environment
    lost: tuple[str, ...] = ()  # what a person must give again, in words, since the record was made anew
    annotator_rates: dict[str, AnnotatorRates] = {}  # by control, where annotators are weighed
    decided_anew: DecidedAnew | None = None
    decided_with: str | None = None  # fingerprint of the taxonomy and the rule that the labels were decided with

    def read_config(self, xml: str | None = None) -> LabelConfig:
        """Return the labelling config, or another one in its place, with the nodes and controls that were renamed.

        Raises `ConfigError` when it has no taxonomy.
        """
        return read_label_config(self.label_config if xml is None else xml, self.label_decisions, frozenset(self.gone))

    @property
    def source(self) -> str:
        """The source of what comes from the project's Label Studio: its number and its time of creation."""
        return f"{self.project}.{self.created}" if self.created else UNKNOWN_SOURCE

    @model_validator(mode="before")
    @classmethod
    def _read_former_name(cls, values: Any) -> Any:
        """Read the field `images_folder` of earlier versions, which allowed one folder."""
        if isinstance(values, dict) and (folder := values.pop("images_folder", None)):
            values.setdefault("image_folders", [{"address": folder, "folders": [folder]}])
        return values

    @field_serializer("api_key", when_used="json")
    def _store_key(self, key: SecretStr | None) -> str | None:
        return key.get_secret_value() if key else None


def with_address(others: Sequence[str], new: str | None, current: str) -> tuple[str, ...]:
    """Return the other addresses of a Label Studio with a new one, without `current`; the oldest of many go."""
    known = dict.fromkeys([*others, *([new] if new else [])])
    return tuple(address for address in known if address != current)[-_MOST_ADDRESSES:]


def _repair(path: Path) -> str:
    """Return how a record that cannot be read is made anew. Labels are not in it, so they stay."""
    return (
        f'Move it aside: mv "{path}" "{path}.damaged". Then run `taxonomist connect`, or import the same files again. '
        "A worker that runs moves it aside by itself, and makes it anew from what else is known. "
        "No label is lost; settings of the project and decisions on renamed nodes are to be made again."
    )


def lost_annotations(source: str) -> str:
    """Return the words in `lost` for the annotations of a source, which went with the journal."""
    return f"{_ANNOTATIONS}{source}"


def of_annotations(lost: Iterable[str]) -> tuple[str, ...]:
    """Return those of the words in `lost` that are about annotations."""
    return tuple(words for words in lost if words.startswith(_ANNOTATIONS))


def what_to_give_again(record: ProjectRecord) -> str | None:
    """Return what a record that was made anew lacks, and how it is given again; None where it lacks nothing."""
    if not record.lost:
        return None
    has_config = bool(record.label_config)
    lost_sources = [words.removeprefix(_ANNOTATIONS) for words in of_annotations(record.lost)]
    lost = [*record.lost, *([] if has_config else ["the labelling config"])]
    steps = {
        f"Run `taxonomist connect --url … --api-key … --project {record.project}`.": LOST_TOKEN in record.lost,
        f"`taxonomist sync --project {record.project}` brings back what Label Studio has.": any(
            map(is_label_studio, lost_sources)
        ),
        "Import the same files again.": (LOST_TOKEN not in record.lost and not has_config)
        or not all(map(is_label_studio, lost_sources)),
        f"Run `taxonomist settings --project {record.project} …`.": LOST_CHOICES in record.lost,
    }
    how = " ".join(step for step, is_needed in steps.items() if is_needed)
    return f"The record was damaged or gone, and made anew without {', '.join(lost)}. {how}"


class ProjectRecords:
    """The records of all projects in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cached: dict[str, tuple[tuple[int, int, int], ProjectRecord]] = {}
        self._caching = threading.Lock()
        self._comparing = threading.RLock()
        self._complaints: dict[str, str] = {}  # by project, as it was logged

    def get(self, project: str) -> ProjectRecord:
        """Return the record of a project, an empty one for an unknown project.

        Raises `DamagedError` or `StorageError` when the file cannot be read, `BadRequestError` for a text that cannot
        name a project.
        """
        return self.find(project) or ProjectRecord(project=project)

    def find(self, project: str) -> ProjectRecord | None:
        """Return the record of a project as `get` does, None for an unknown project."""
        path = os.path.join(self._folder, _checked_file_name(project))  # noqa: PTH118 - several times for each webhook
        try:
            stat = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        except OSError:
            with storage_errors(Path(path)):
                raise
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        cached = self._cached.get(project)
        if cached is not None and cached[0] == stamp:  # a labelling config may be large, and each request needs it
            return cached[1]
        record = self._read(project)
        with self._caching:
            self._cached.pop(project, None)
            self._cached[project] = (stamp, record)
            total = sum(found[0][1] for found in self._cached.values())
            while total > _CACHED_BYTES and len(self._cached) > 1:
                total -= self._cached.pop(next(iter(self._cached)))[0][1]
        return record

    def exists(self, project: str) -> bool:
        """Return whether there is a record of the project."""
        return self._path(project).exists()

    def remove(self, project: str) -> None:
        """Delete the record of a project, if there is one."""
        path = self._path(project)
        if path.exists():
            with FileLock(self._folder / ".lock"), storage_errors(path):
                path.unlink(missing_ok=True)
                self._cached.pop(project, None)

    def update(self, project: str, **changes: object) -> ProjectRecord:
        """Set some fields of a project's record and return the new record. Writes only when something differs.

        A value that depends on the record is set by `change`.
        """
        return self.change(project, lambda _: changes)

    def change(self, project: str, changes: Callable[[ProjectRecord], Mapping[str, object]]) -> ProjectRecord:
        """Set the fields that `changes` returns for the record as it is now, and return the new record.

        No other process changes the record meanwhile, so `changes` must be quick and must not change a record itself.
        It may be called again, for a record that was changed meanwhile: a new labelling config is compared with the
        former one before the lock is taken, since a large one would keep all projects waiting. Writes only when
        something differs. Raises `ConfigTooLargeError` for a labelling config that exceeds the limits.
        """
        self._path(project)
        self._folder.mkdir(parents=True, exist_ok=True)
        compared: ProjectRecord | None = None
        compared_xml = ""
        gone: dict[str, object] = {}
        with ExitStack() as turn:
            while True:
                with FileLock(self._folder / ".lock"):
                    old = self._read(project)
                    new = dict(changes(old))
                    xml = new.get("label_config")
                    if not isinstance(xml, str) or not xml or xml == old.label_config:
                        return self._write(old, new)
                    if compared is not None and same_nodes(compared, old) and xml == compared_xml:
                        return self._write(old, {**new, **gone})
                if compared is None:  # one thread compares at a time; else the others would repeat their comparison
                    turn.enter_context(self._comparing)
                    old = self._read(project)
                compared, compared_xml, gone = old, xml, gone_with(old, xml)

    def announce(self, project: str, version: str) -> None:
        """Store that Label Studio shows this model version now, and which one it showed before."""

        def announced(record: ProjectRecord) -> Mapping[str, object]:
            is_known = record.announced in {None, version}
            before = record.announced_before if is_known else record.announced
            return {"announced": version, "announced_before": before}

        self.change(project, announced)

    def count_changed_labels(self, project: str, *, changes: int, waiting: int) -> None:
        """Count accepted labels that changed; `waiting` is added to the images that wait for the next training.

        It is below 0 when labels became again what they were at the last training.
        """

        def counted(record: ProjectRecord) -> Mapping[str, object]:
            # The clock, since a project that was forgotten begins anew and must not repeat a version.
            version = max(record.labels_version + 1, time.time_ns() // 1_000_000)
            return {"changed_labels": max(0, record.changed_labels + waiting), "labels_version": version}

        if changes:
            self.change(project, counted)

    def replace_damaged(self, project: str, record: ProjectRecord | None) -> Path | None:
        """Move a record that cannot be read aside, and write this one in its place; return where it is now.

        Nothing is done, and None is returned, where the record can be read, or was written by a newer release. Raises
        `StorageError`; the damaged record is in its place then.
        """
        path = self._path(project)
        aside = path.with_name(f"{path.name[:_MOST_BYTES]}.damaged-{time.time_ns() // 1_000_000}")
        with FileLock(self._folder / ".lock"), storage_errors(path):
            try:
                self._read(project)
                return None
            except NewerFormatError:
                return None
            except DamagedError:
                path.rename(aside)
            try:
                if record is not None:
                    write_model(path, record)
            except BaseException:
                aside.rename(path)
                raise
        return aside

    def add_missing(self, record: ProjectRecord) -> bool:
        """Write a record where there is none; return whether there was none. Raises `StorageError`."""
        path = self._path(record.project)
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self._folder / ".lock"):
                if path.exists():
                    return False
                write_model(path, record)
        return True

    def __iter__(self) -> Iterator[ProjectRecord]:
        for _, found in self._read_all():
            if isinstance(found, ProjectRecord):
                yield found

    def damaged(self) -> dict[str, TaxonomistError]:
        """Return by project why its record cannot be read. Such a record stops no other project."""
        return {name: found for name, found in self._read_all() if not isinstance(found, ProjectRecord)}

    def _read_all(self) -> Iterator[tuple[str, ProjectRecord | TaxonomistError]]:
        found: ProjectRecord | TaxonomistError
        for path in sorted(self._folder.glob("*.json")):
            name = unquote(path.stem)
            try:
                found = self.get(name)
                self._complaints.pop(name, None)
            except TaxonomistError as error:
                found = error
                if self._complaints.get(name) != str(error):  # once, since the worker reads all each second
                    self._complaints[name] = str(error)
                    log.error("%s", error)
            yield name, found

    def _read(self, project: str) -> ProjectRecord:
        """Return the record as it is in the file."""
        path = self._path(project)
        record = read_model(path, ProjectRecord, hint=_repair(path)) or ProjectRecord(project=project)
        if record.project != project:
            raise DamagedError(f"{path} is the record of project {record.project}.", hint=_repair(path))
        return record

    def _write(self, old: ProjectRecord, changes: Mapping[str, object]) -> ProjectRecord:
        path = self._path(old.project)
        if unknown := changes.keys() - ProjectRecord.model_fields.keys():
            raise TypeError(f"A project record has no field {min(unknown)!r}.")
        new = old.model_copy(update=dict(changes))
        if new != old or not path.exists():
            write_model(path, new)
        return new

    def _path(self, project: str) -> Path:
        return self._folder / _checked_file_name(project)


@lru_cache(maxsize=1000)
def _checked_file_name(project: str) -> str:
    if not is_project(project):
        raise BadRequestError(f"{shorten(repr(project))} is not a project: use Label Studio's number or a short name.")
    return _file_name(project)
