"""What the backend remembers of each Label Studio project: its labelling config and how to reach Label Studio.

One JSON file a project, readable by the owner only, since it may hold a token. It is replaced whole, so a reader
never sees half of it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock
from pydantic import BaseModel, SecretStr, ValidationError, field_serializer

from taxonomist.taxonomy.errors import BadRequestError, DamagedError

log = logging.getLogger(__name__)
_PROJECT = re.compile(r"[\w .@-]{1,100}", re.UNICODE)


def is_project(name: str) -> bool:
    """Whether a text can name a project: Label Studio's number, or a short name without slashes."""
    return bool(_PROJECT.fullmatch(name)) and name.strip(" .") != ""


class ProjectRecord(BaseModel, frozen=True):
    """A project as it was last seen. `created` tells a new project from an old one whose id was used again."""

    project: str
    label_config: str = ""
    created: str | None = None
    label_studio_url: str | None = None
    api_key: SecretStr | None = None
    ml_backend: int | None = None
    announced: str | None = None  # the model version that Label Studio was last told
    images_folder: Path | None = None  # where the pictures of an imported catalogue lie
    labels_version: int = 0  # grows whenever an accepted label changes
    changed_labels: int = 0  # images whose accepted label changed since the last training was asked for
    decided_with: str | None = None  # fingerprint of the taxonomy and the rule that the labels were decided with

    @field_serializer("api_key", when_used="json")
    def _keep_key(self, key: SecretStr | None) -> str | None:
        return key.get_secret_value() if key else None


class ProjectRecords:
    """The records of all projects in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, tuple[tuple[int, int, int], ProjectRecord]] = {}

    def get(self, project: str) -> ProjectRecord:
        """The record of a project, an empty one when nothing is known. Raises `DamagedError`, `BadRequestError`."""
        path = self._path(project)
        try:
            about = path.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            kept = self._kept.get(path)
            if kept is None or kept[0] != stamp:  # a labelling config may be large and is asked for on each request
                kept = self._kept[path] = (stamp, ProjectRecord.model_validate_json(path.read_bytes()))
            return kept[1]
        except FileNotFoundError:
            return ProjectRecord(project=project)
        except ValidationError:
            raise DamagedError(
                f"The record of project {project} is damaged: {path}.", hint="Delete it and run `taxonomist connect`."
            ) from None

    def update(self, project: str, **changes: object) -> ProjectRecord:
        """Change some fields of a project's record and return the new record. Writes only when something differs."""
        self._path(project)
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            return self._write(self.get(project), changes)

    def count_changed_labels(self, project: str, images: int) -> None:
        """Add to the number of images whose accepted label changed since the last training."""
        if images:
            with FileLock(self._folder / ".lock"):
                old = self.get(project)
                changes = {"changed_labels": old.changed_labels + images, "labels_version": old.labels_version + 1}
                self._write(old, changes)

    def __iter__(self) -> Iterator[ProjectRecord]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield self.get(unquote(path.stem))
            except DamagedError as error:
                log.error("%s", error)

    def _write(self, old: ProjectRecord, changes: Mapping[str, object]) -> ProjectRecord:
        path = self._path(old.project)
        new = old.model_copy(update=dict(changes))
        if new != old or not path.exists():
            _write_whole(path, new.model_dump_json(indent=1))
        return new

    def _path(self, project: str) -> Path:
        if not is_project(project):
            raise BadRequestError(f"{project!r} is not a project: use Label Studio's number or a short name.")
        return self._folder / f"{quote(project, safe=' @')}.json"


def _write_whole(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
