"""Tasks and annotations from a JSON export of Label Studio, of any size: the file is read as a stream, twice.

The first pass checks the file as a whole, so that a truncated file changes nothing. The second pass imports the tasks.
Tasks and annotations that cannot be used are reported and do not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.import_result import ImportResult, ImportSummary, LeftOut
from taxonomist.backend.labelling.task_events import task_events
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import Event, TaskSaved
from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config

CHUNK = 500  # tasks that are in memory together
_BOM = b"\xef\xbb\xbf"
_DEEPEST = 200
_AS_JSON = "Export the project as JSON, not JSON-MIN or CSV."


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
    Raises `ConfigError` before anything is imported.
    """
    total, named_project = _check(export)
    project = project or named_project
    if project is None:
        raise ConfigError(f"{export} does not name its project.", hint="Give --project.")
    known_config = _load_config(services, project, config)
    saved_at = datetime.fromtimestamp(export.stat().st_mtime, UTC)
    source = source or export.name
    if not services.projects.get(project).created:  # what earlier releases stored without a source was imported
        services.journal.adopt(project, source)
    summary = ImportSummary()
    tasks = _tasks(export)
    while chunk := list(islice(tasks, CHUNK)):
        events: list[Event] = []
        for position, task in enumerate(chunk, start=summary.entries):
            found = task_events(project, source, task, known_config, saved_at, position=position)
            events += found.events
            summary.leave_out(found.left_out)
            summary.count_unknown(found.unknown, found.name)
        for event in _record(services, events, summary):
            if isinstance(event, TaskSaved):
                summary.images.add(image_id(event.uri))
            else:
                summary.annotations += 1
        decide_all_dirty(services, project)  # after each chunk, so that the number of dirty images stays bounded
        summary.entries += len(chunk)
        progress(summary.entries, total)
    decide_all_dirty(services, project)
    return summary.result(services, project)


def _record(services: Services, events: Sequence[Event], summary: ImportSummary) -> list[Event]:
    """Commit the events; return those that can be stored."""
    try:
        services.journal.record(events)
    except BadRequestError as error:
        if len(events) == 1:
            task = getattr(events[0], "task_id", "")
            summary.leave_out([LeftOut("task or annotation that cannot be stored", f"task {task}: {error}")])
            return []
        # The journal does not say which event it refuses: bisect.
        half = len(events) // 2
        return _record(services, events[:half], summary) + _record(services, events[half:], summary)
    return list(events)


def _load_config(services: Services, project: str, config: Path | None) -> LabelConfig:
    """Return the project's labelling config: the given file, which is stored with the project, or the stored one."""
    if config is not None:
        try:
            xml = config.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{config} cannot be read: {error}.") from None
        parse_label_config(xml)
        services.projects.update(project, label_config=xml)
    xml = services.projects.get(project).label_config
    if not xml:
        raise ConfigError(
            f"The labelling config of project {project} is unknown.",
            hint="Give --config, or run `taxonomist connect` first.",
        )
    return parse_label_config(xml)


def _check(export: Path) -> tuple[int, str | None]:
    """Return the number of tasks, and the first project that a task names.

    Raises `ConfigError` when the file is not a list, is truncated, or is nested too deeply.
    """
    count = depth = 0
    key = project = None
    for event, value in _read(export, ijson.basic_parse):
        if event in {"end_map", "end_array"}:
            depth -= 1
            continue
        if depth == 0 and event != "start_array":
            raise ConfigError(f"{export} is not a list of tasks.", hint=_AS_JSON)
        if depth == 1:
            count, key = count + 1, None
        elif depth == 2 and event == "map_key":
            key = value
        elif depth == 2 and key == "project" and event in {"number", "string"}:
            project = project or str(value or "") or None
        depth += event in {"start_map", "start_array"}
        if depth > _DEEPEST:  # ijson takes memory for each pair of levels when it builds the values
            raise ConfigError(f"{export} has values that are nested more than {_DEEPEST} deep.", hint=_AS_JSON)
    return count, project


def _tasks(export: Path) -> Iterator[object]:
    return map(_plain, _read(export, lambda file: ijson.items(file, "item")))


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
            file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
            yield from parse(file)
    except FileNotFoundError:
        raise ConfigError(f"There is no file {export}.") from None
    except (ijson.JSONError, OSError, ValueError) as error:
        if "premature EOF" in str(error) or "Incomplete" in str(error):
            raise ConfigError(
                f"{export} ends in the middle.", hint="Export it again, and copy the whole file."
            ) from None
        reason = next(iter(str(error).removeprefix("b'").splitlines()), "").partition("\\n")[0].strip().rstrip(".")
        raise ConfigError(f"{export} is not JSON: {reason}.", hint=_AS_JSON) from None
