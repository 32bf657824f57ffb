"""Tasks and annotations from a JSON export of Label Studio, of any size: it is read as a stream, twice.

The first reading finds what is wrong with the file as a whole, so that a file cut off in the middle changes nothing.
The second takes the tasks. What cannot be used is told and costs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from pydantic import ValidationError

from taxonomist.backend.label_studio.protocol import Task, annotation_saved, label_config
from taxonomist.backend.labelling.manifests import CHUNK, Advance, Imported, Problems, decide_all, decide_waiting
from taxonomist.backend.services import Services
from taxonomist.storage.journal import Event, TaskSaved
from taxonomist.taxonomy.annotations import parse_annotation
from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.label_config import LabelConfig

_BOM = b"\xef\xbb\xbf"
_DEEPEST = 200
_AS_JSON = "Export the project as JSON, not JSON-MIN or CSV."


def import_export(
    services: Services,
    export: Path,
    *,
    project: str | None = None,
    config: Path | None = None,
    advance: Advance = lambda done, total: None,
) -> Imported:
    """Take the tasks and annotations of a Label Studio JSON export; memory holds a few hundred tasks at a time.

    Raises `ConfigError`, then nothing was taken.
    """
    total, named = _survey(export)
    project = project or named
    if project is None:
        raise ConfigError(f"{export} does not say which project it is of.", hint="Give --project.")
    known = _known_config(services, project, config)
    made = datetime.fromtimestamp(export.stat().st_mtime, UTC)
    problems = Problems()
    done = images = annotations = 0
    tasks = _tasks(export)
    while chunk := list(islice(tasks, CHUNK)):
        taken: list[Event] = []
        for place, task in enumerate(chunk, start=done):
            events, wrong = export_events(project, task, known, made, place)
            problems.extend(wrong)
            taken += events
        recorded = _record(services, taken, problems)
        images += sum(1 for event in recorded if isinstance(event, TaskSaved))
        annotations += sum(1 for event in recorded if not isinstance(event, TaskSaved))
        decide_waiting(services, project)  # at once, so that what waits does not grow with the file
        done += len(chunk)
        advance(done, total)
    labelled = decide_all(services, project)
    return Imported(project, images, annotations, labelled, problems.listed(), problems.count)


def export_events(
    project: str, task: object, config: LabelConfig, made: datetime, place: int | None = None
) -> tuple[list[Event], list[str]]:
    """The events of one task with its annotations, as exports and the API give it, and what cannot be used of it.

    `made` stands in for the time of what has none, `place` for the id of one that has none, counted from 0.
    """
    name = f"task {task['id']}" if isinstance(task, Mapping) and task.get("id") is not None else "a task without id"
    name += "" if place is None or "without" not in name else f", number {place + 1} of the file"
    try:
        saved = Task.model_validate(task)
        uri = saved.image_uri(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return [], [f"{name}: not a task: {where or f'{task!s:.80}'}: {first['msg']}"]
    except BadRequestError as error:
        return [], [f"{name}: {error}"]
    assert isinstance(task, Mapping)
    events: list[Event] = [TaskSaved(project, str(saved.id), uri, saved.created_at or made)]
    problems: list[str] = []
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        return events, [f"{name}: its annotations are not a list: {annotations!s:.80}"]
    for each in annotations:
        try:
            if not isinstance(each, Mapping):
                raise BadRequestError(f"not an annotation: {each!s:.80}")
            events.append(annotation_saved(project, {"task": saved.id, **_dated(each, made)}, uri))
            unknown = parse_annotation(each, config, task_id=str(saved.id)).unknown
            problems += [f"{name}: {path}" for path in unknown]
        except BadRequestError as error:
            problems.append(f"{name}: {error}")
    return events, problems


def _dated(annotation: Mapping[str, Any], made: datetime) -> Mapping[str, Any]:
    """Files made by hand may leave out times: then a newer file wins over an older one."""
    created = annotation.get("created_at") or annotation.get("updated_at") or made.isoformat()
    return {**annotation, "created_at": created, "updated_at": annotation.get("updated_at") or created}


def _record(services: Services, events: Sequence[Event], problems: Problems) -> list[Event]:
    """Commit the events; returns those that can be stored."""
    try:
        services.journal.record(events)
    except BadRequestError as error:
        if len(events) == 1:
            problems.extend([f"task {getattr(events[0], 'task_id', '')}: {error}"])
            return []
        # One of them, but which one?
        half = len(events) // 2
        return _record(services, events[:half], problems) + _record(services, events[half:], problems)
    return list(events)


def _known_config(services: Services, project: str, config: Path | None) -> LabelConfig:
    if config is not None:
        try:
            xml = config.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{config} cannot be read: {error}.") from None
        label_config(xml)
        services.projects.update(project, label_config=xml)
    xml = services.projects.get(project).label_config
    if not xml:
        raise ConfigError(
            f"The labelling config of project {project} is unknown.", hint="Give --config, or connect first."
        )
    return label_config(xml)


def _survey(export: Path) -> tuple[int, str | None]:
    """How many tasks there are, and the first project that one names. Raises `ConfigError` for a file that is no list,
    or not whole."""
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
        if depth > _DEEPEST:  # what builds the values would take memory for each pair of levels
            raise ConfigError(f"{export} has values in values, more than {_DEEPEST} deep.", hint=_AS_JSON)
    return count, project


def _tasks(export: Path) -> Iterator[object]:
    return map(_plain, _read(export, lambda file: ijson.items(file, "item")))


def _plain(value: object) -> object:
    """As `json` has it: numbers with a point are floats, and not `Decimal`, as which they came to be of any size."""
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
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
            raise ConfigError(f"{export} ends in the middle.", hint="Export it again, and copy it whole.") from None
        reason = next(iter(str(error).removeprefix("b'").splitlines()), "").partition("\\n")[0].strip().rstrip(".")
        raise ConfigError(f"{export} is not JSON: {reason}.", hint=_AS_JSON) from None
