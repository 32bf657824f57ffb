"""Tasks and annotations from a JSON export of Label Studio, of any size: the file is read as a stream, twice.

The first pass checks the file as a whole, so that a truncated file changes nothing. The second pass imports the tasks.
Tasks, annotations and regions that cannot be used are reported and do not affect the others. A folder is that of a
target storage: each of its files holds an annotation.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import ijson

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.export_forms import AS_JSON, as_task, check_csv, check_form
from taxonomist.backend.labelling.import_result import ImportResult, ImportSummary, LeftOut
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.sources import file_source
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationSaved, Event, TaskSaved
from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.label_config import parse_label_config

CHUNK = 500  # tasks that are in memory together
_DEEPEST = 200


def is_export(file: Path) -> bool:
    """Return whether a file or folder is an export as JSON, or meant as one, and not a manifest.

    The files of a target storage have no suffix. Raises `ConfigError` for the export CSV of Label Studio.
    """
    if file.is_dir() or file.suffix.lower() in {".json", ".zip"}:
        return True
    try:
        with file.open("rb") as content:
            start = content.read(4096)
    except OSError:
        return False  # the reader of manifests says what is wrong
    if start.lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:1] in {b"[", b"{"} and file.suffix.lower() not in {".csv", ".tsv"}:
        return True
    header = start.partition(b"\n")[0].decode("utf-8", "replace").lstrip("\ufeff")
    check_csv(file, [name.strip(' "\r') for name in header.replace("\t", ",").split(",")])
    return False


def import_export(
    services: Services,
    export: Path,
    *,
    project: str | None = None,
    config: Path | None = None,
    source: str | None = None,
    progress: CountProgress = ignore_counts,
) -> ImportResult:
    """Import the tasks and annotations of a Label Studio JSON export; at most `CHUNK` tasks are in memory.

    `source` names what the file comes from, by default the file's name: ids of tasks and annotations count within it.
    Raises `ConfigError` before anything is imported, and when no task can be used.
    """
    files = _files(export)
    scans = [_scan(file) for file in files]
    total = sum(scan.entries for scan in scans)
    project = project or _project_of(export, scans)
    xml = _read_config(services, project, config)
    known_config = parse_label_config(xml)
    saved_at = datetime.fromtimestamp(export.stat().st_mtime, UTC)
    source = file_source(export.resolve().name if source is None else source)
    services.journal.adopt(project, source, former=EARLIER_IMPORT)
    summary = ImportSummary()
    annotations: set[int] = set()  # a file may hold an annotation twice
    tasks = (item for file, scan in zip(files, scans, strict=True) for item in _items(file, scan))
    while chunk := list(islice(tasks, CHUNK)):
        events: list[Event] = []
        for position, item in enumerate(chunk, start=summary.entries):
            try:
                task = as_task(item)
            except BadRequestError as error:
                summary.leave_out([LeftOut("record of another form", f"number {position + 1} of the file: {error}")])
                continue
            found = task_events(project, source, task, known_config, saved_at, position=position)
            events += found.events
            summary.leave_out(found.left_out)
            summary.count_unknown(found.unknown, found.name)
        if events and config is not None:  # an import that can use nothing changes nothing
            services.projects.update(project, label_config=xml)
        for event in record_usable(services.journal, events, partial(_leave_out, summary))[0]:
            if isinstance(event, TaskSaved):
                summary.images |= {image_id(uri) for uri in (event.uri, *event.images.values())}
            elif isinstance(event, AnnotationSaved):
                annotations.add(hash(event.annotation_id))
        decide_all_dirty(services, project)  # after each chunk, so that the number of dirty images stays bounded
        summary.entries += len(chunk)
        progress(summary.entries, total)
    decide_all_dirty(services, project)
    if config is not None and summary.images:
        decide_anew(services, project)
    summary.annotations = len(annotations)
    result = summary.result(services, project)
    if result.entries and not result.images:
        raise ConfigError(f"{export}: none of its {result.entries} tasks can be imported. {result.problems[0]}")
    return result


def _leave_out(summary: ImportSummary, event: Event, error: BadRequestError) -> None:
    task = getattr(event, "task_id", "")
    summary.leave_out([LeftOut("task or annotation that cannot be stored", f"task {task}: {error}")])


def _project_of(export: Path, scans: Sequence[_Scan]) -> str:
    """Return the project that the files name. Raises `ConfigError` when they name none, or several."""
    named = sorted({scan.project for scan in scans if scan.project})
    if not named:
        raise ConfigError(f"{export} does not name its project.", hint="Give --project.")
    if len(named) > 1:
        raise ConfigError(f"{export} has tasks of several projects: {', '.join(named[:10])}.", hint="Give --project.")
    return named[0]


def _read_config(services: Services, project: str, config: Path | None) -> str:
    """Return the labelling config in the given file, else that of the project. Raises `ConfigError`."""
    if config is not None:
        try:
            xml = config.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{config} cannot be read: {error}.") from None
        parse_label_config(xml)
        return xml
    if xml := services.projects.get(project).label_config:
        return xml
    raise ConfigError(
        f"The labelling config of project {project} is unknown.",
        hint="Give --config, or run `taxonomist connect` first.",
    )


@dataclass
class _Scan:
    """What the first pass found: the number of tasks, the project that one of them names, and whether it is a list."""

    entries: int = 0
    project: str | None = None
    is_list: bool = True
    top: dict[str, None] = field(default_factory=dict)  # the keys of a file that is one object
    first: dict[str, None] = field(default_factory=dict)  # the keys of the first object of a list


def _files(export: Path) -> list[Path]:
    """Return the files to read: one export, or those in the folder of a target storage."""
    if not export.is_dir():
        return [export]
    files = sorted(file for file in export.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise ConfigError(f"There is no file in the folder {export}.")
    return files


def _scan(export: Path) -> _Scan:
    """Read the whole file. Raises `ConfigError` for a form that cannot be taken, or a file that is truncated."""
    scan = _Scan()
    depth = 0
    keys = [""] * (_DEEPEST + 2)
    for event, value in _read(export, ijson.basic_parse):
        if event in {"end_map", "end_array"}:
            depth -= 1
            continue
        if depth == 0:
            if event not in {"start_array", "start_map"}:
                raise ConfigError(f"{export} is not a list of tasks.", hint=AS_JSON)
            scan.is_list = event == "start_array"
        if depth == 1 and scan.is_list:
            scan.entries += 1
        if event == "map_key":
            keys[depth] = value
            if depth == 1:
                scan.top[value] = None
            elif depth == 2 and scan.is_list and scan.entries == 1:
                scan.first[value] = None
        elif scan.project is None and keys[depth] == "project" and event in {"number", "string"}:
            inside = depth - scan.is_list
            if inside == 1 or (inside == 2 and keys[depth - 1] == "task"):
                scan.project = str(value or "") or None
        elif event in {"start_map", "start_array"}:
            depth += 1
            keys[depth] = ""
        if depth > _DEEPEST:  # ijson takes memory for each pair of levels when it builds the values
            raise ConfigError(f"{export} has values that are nested more than {_DEEPEST} deep.", hint=AS_JSON)
    check_form(export, scan.top, scan.first)
    scan.entries = scan.entries if scan.is_list else 1
    return scan


def _items(export: Path, scan: _Scan) -> Iterator[object]:
    return map(_plain, _read(export, lambda file: ijson.items(file, "item" if scan.is_list else "")))


def _plain(value: object) -> object:
    """Return the value as `json` reads it. ijson reads numbers with a point as `Decimal`, of any size."""
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case Decimal():
            return float(value)
    return value


def _read(export: Path, parse: Callable[[BinaryIO], Iterator[Any]]) -> Iterator[Any]:
    try:
        with export.open("rb") as file:
            start = file.read(4)
            if start.startswith(b"PK"):
                raise ConfigError(f"{export} is a zip archive.", hint=f"Unpack it. {AS_JSON}")
            file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
            wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            yield from parse(cast(BinaryIO, _AsUtf8(codecs.getreader("utf-16")(file))) if wide else file)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {export}.") from None
    except (ijson.JSONError, OSError, ValueError) as error:
        if "premature EOF" in str(error) or "Incomplete" in str(error):
            raise ConfigError(
                f"{export} ends in the middle.", hint="Export it again, and copy the whole file."
            ) from None
        reason = next(iter(str(error).removeprefix("b'").splitlines()), "").partition("\\n")[0].strip().rstrip(".")
        raise ConfigError(f"{export} is not JSON: {reason}.", hint=AS_JSON) from None


class _AsUtf8:
    """A file in UTF-16, as PowerShell writes it, read as UTF-8."""

    def __init__(self, reader: codecs.StreamReader) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        return self._reader.read(size).encode()
