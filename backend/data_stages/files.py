"""The files that one stage writes and the next one reads.

A query writes `query.csv`, `containers.json` and `query.json`, a split writes `split.csv` and `split.json`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from taxonomist.storage.csv_text import for_spreadsheets, open_csv
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import TaxonomyPath

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
QUERY, CONTAINERS, QUERY_REPORT = "query.csv", "containers.json", "query.json"
SPLIT, SPLIT_REPORT = "split.csv", "split.json"
_FIXED = ("id", "uri", "container", "project", "group", "file_hash", "part", "bulk")
_LEVEL = re.compile(r"level([1-9]\d?)")


@dataclass(frozen=True)
class ChosenImage:
    """An image that a query chose: one row of `query.csv`.

    `container` is the container of its document in Cosmos DB. `project` is the project that its address and label come
    from, "" for none. `part` is the part that the image was assigned before: "test", "train" or "". `bulk` is "yes"
    where the label was given to many images in one action, else "". `path` is the label, () for none.
    """

    id: str
    uri: str
    container: str = ""
    project: str = ""
    group: str = ""
    file_hash: str = ""
    part: str = ""
    path: TaxonomyPath = ()
    bulk: str = ""


@dataclass(frozen=True)
class PlacedImage:
    """An image in its part: one row of `split.csv`.

    `label` is the class, `number` its index from 0 in the order of the labels. `copies` is how often a training sees
    the image in one epoch.
    """

    id: str
    part: Part
    label: str
    number: int
    copies: int = 1


def write_query(folder: Path, chosen: Sequence[ChosenImage], report: Mapping[str, Any]) -> None:
    """Write the three files of a query. Raises `StorageError`."""
    levels = max((len(image.path) for image in chosen), default=0)
    rows = (
        [*(getattr(image, name) for name in _FIXED), *image.path, *[""] * (levels - len(image.path))]
        for image in chosen
    )
    _write_csv(folder / QUERY, [*_FIXED, *(f"level{level + 1}" for level in range(levels))], rows)
    _write_json(folder / CONTAINERS, {image.id: image.container for image in chosen})
    _write_json(folder / QUERY_REPORT, {FORMAT: 1, **report})


def read_query(folder: Path) -> list[ChosenImage]:
    """Return the images that a query chose. Only the columns `id` and `uri` are required. Raises `ConfigError`."""
    file = folder / QUERY
    chosen = []
    for line, row in _read_csv(file, ("id", "uri"), "taxonomist data query --out"):
        levels = sorted((name for name in row if _LEVEL.fullmatch(name)), key=lambda name: int(name[5:]))
        path = _path(file, line, [row[level] for level in levels])
        chosen.append(ChosenImage(**{name: row.get(name, "") for name in _FIXED}, path=path))
    return chosen


def write_split(folder: Path, placed: Iterable[PlacedImage], report: Mapping[str, Any]) -> None:
    """Write the two files of a split. Raises `StorageError`."""
    rows = ([image.id, image.part, image.label, image.number, image.copies] for image in placed)
    _write_csv(folder / SPLIT, ["id", "part", "label", "class", "copies"], rows)
    _write_json(folder / SPLIT_REPORT, {FORMAT: 1, **report})


def read_split(folder: Path) -> list[PlacedImage]:
    """Return the images in their parts. Raises `ConfigError`."""
    path = folder / SPLIT
    placed = []
    columns = ("id", "part", "label", "class", "copies")
    for line, row in _read_csv(path, columns, "taxonomist data split --query"):
        try:
            part = next(part for part in PARTS if part == row["part"])
            placed.append(PlacedImage(row["id"], part, row["label"], int(row["class"]), int(row["copies"])))
        except (StopIteration, ValueError, TypeError):
            raise ConfigError(f"{path}, line {line}: not a row of a split.") from None
    return placed


def write_report(folder: Path, name: str, report: Mapping[str, Any]) -> None:
    """Write the result of a stage. Raises `StorageError`."""
    _write_json(folder / name, {FORMAT: 1, **report})


def _path(file: Path, line: int, names: Sequence[str]) -> TaxonomyPath:
    depth = next((level for level, name in enumerate(names) if not name), len(names))
    if any(names[depth:]):
        raise ConfigError(f"{file}, line {line}: level{depth + 1} is empty, but a deeper level is not.")
    return tuple(names[:depth])


def _read_csv(path: Path, required: Sequence[str], command: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the fields of each row with an id."""
    if not path.exists():
        raise ConfigError(f"There is no {path}.", hint=f"`{command} {path.parent}` writes it.")
    table = open_csv(path, required.__contains__)
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise ConfigError(f"{path} has no column {missing[0]!r}.", hint=f"`{command}` writes such files.")
    for row in table.rows:
        if row.problem:
            raise ConfigError(f"{path}, line {row.line}: {row.problem}.")
        fields = dict(zip(table.columns, row.fields, strict=False))
        if fields.get("id"):
            yield row.line, fields


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(header)
    lines.writerows(map(for_spreadsheets, rows))
    _write(path, text.getvalue())


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode("utf-8", "surrogatepass"))
