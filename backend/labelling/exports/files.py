"""The files of an export, read as streams of their tasks, so that a file of any size needs little memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from taxonomist.backend.labelling.exports.annotation_ids import count_within_tasks
from taxonomist.backend.labelling.exports.forms import AS_JSON, check_form, plain_id
from taxonomist.backend.labelling.exports.json_stream import read_events, read_items
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import shorten

_DEEPEST = 200


class ExportFiles:
    """One file, or those in the folder of a target storage. Making it checks each file as a whole.

    Raises `ConfigError` for a form that cannot be taken, a file that is truncated, and one without tasks. `entries` is
    the number of tasks, `ids_repeat` says whether an id occurs twice, `ids_within_tasks` whether the ids of annotations
    count anew within each task.
    """

    def __init__(self, export: Path) -> None:
        self.path = export
        self._files = _files(export)
        ids = _Ids()
        self._scans = [_scan(file, ids) for file in self._files]
        self.entries = sum(scan.entries for scan in self._scans)
        if not self.entries:
            raise ConfigError(
                f"{export} has no tasks. A list of tasks is expected, also without annotations. Nothing was changed.",
                hint="Label Studio may have exported only what a filter shows. Export the project again.",
            )
        self.ids_repeat = ids.repeat or ids.repeat_in_an_item
        self.ids_within_tasks = ids.repeat and count_within_tasks(self.items())

    def items(self) -> Iterator[object]:
        """Yield the items of the files as `json` reads them: tasks, or what stands in their place."""
        for file, scan in zip(self._files, self._scans, strict=True):
            yield from _items(file, scan)

    def project(self) -> str:
        """Return the project that the files name. Raises `ConfigError` when they name none, or several."""
        named = sorted({scan.project for scan in self._scans if scan.project})
        if not named:
            raise ConfigError(f"{self.path} does not name its project.", hint="Give --project.")
        if len(named) > 1:
            raise ConfigError(
                f"{self.path} has tasks of several projects: {', '.join(map(shorten, named[:10]))}.",
                hint="Give --project.",
            )
        return named[0]


@dataclass
class _Scan:
    """What the first pass found: the number of tasks, the project that one of them names, and whether it is a list."""

    entries: int = 0
    project: str | None = None
    is_list: bool = True
    top: dict[str, None] = field(default_factory=dict)  # the keys of a file that is one object
    first: dict[str, None] = field(default_factory=dict)  # the keys of the first object of a list


class _Ids:
    """Finds out whether an id stands in two items, or twice in one. Only then items are compared, which takes time."""

    def __init__(self) -> None:
        self.repeat = self.repeat_in_an_item = False
        self._known: set[int] = set()  # hashes
        self._of_item: set[int] = set()

    def add(self, depth: int, id: object) -> None:
        """Add an id of the current item. In an annotation of a target storage it stands at another depth."""
        if not self.repeat:
            key = hash((depth, str(plain_id(_plain(id)))))  # as in `as_task`, where 1, 1.0 and "1" are one id
            self.repeat = key in self._known
            self.repeat_in_an_item |= key in self._of_item
            self._of_item.add(key)

    def end_item(self) -> None:
        """Note that the ids that follow are those of another item."""
        self._known |= self._of_item
        self._of_item.clear()


def _files(export: Path) -> list[Path]:
    """Return the files to read: one export, or those in the folder of a target storage."""
    if not export.is_dir():
        return [export]
    files = sorted(file for file in export.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise ConfigError(f"There is no file in the folder {export}.")
    return files


def _scan(export: Path, ids: _Ids) -> _Scan:
    """Read the whole file, and add the ids of its annotations.

    Raises `ConfigError` for a form that cannot be taken, or a file that is truncated.
    """
    scan = _Scan()
    depth = 0
    keys = [""] * (_DEEPEST + 2)
    for event, value in read_events(export):
        if event in {"end_map", "end_array"}:
            depth -= 1
            if depth == scan.is_list:
                ids.end_item()
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
                scan.project = str(plain_id(_plain(value)) or "") or None
        elif keys[depth] == "id" and event in {"number", "string"}:
            inside = depth - scan.is_list
            if inside == 1 or (inside == 3 and keys[depth - 2] in {"annotations", "completions"}):
                ids.add(inside, value)
        elif event in {"start_map", "start_array"}:
            depth += 1
            keys[depth] = ""
        if depth > _DEEPEST:  # ijson takes memory for each pair of levels when it builds the values
            raise ConfigError(f"{export} has values that are nested more than {_DEEPEST} deep.", hint=AS_JSON)
    check_form(export, scan.top, scan.first)
    scan.entries = scan.entries if scan.is_list else 1
    return scan


def _items(export: Path, scan: _Scan) -> Iterator[object]:
    return map(_plain, read_items(export, "item" if scan.is_list else ""))


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
