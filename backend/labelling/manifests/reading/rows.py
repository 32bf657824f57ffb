"""The rows of a manifest, each checked alone and then against the others. What is checked here is not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taxonomist.backend.labelling.manifests.reading.columns import Columns
from taxonomist.backend.labelling.manifests.reading.files import FoundFile
from taxonomist.storage.addresses import file_address, parse_address
from taxonomist.storage.csv_text import CsvRow
from taxonomist.taxonomy.names import clean_name, shorten, unusable_character
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

IMPORT_ANNOTATOR = "import"  # the annotator of rows without one; such rows are ground truth
_LONGEST_PROBLEM = 500  # characters


class BadReason(StrEnum):
    """Why a row cannot be taken."""

    UNREADABLE = "row that cannot be read"
    NO_FILE_NAME = "row without a file name"
    CONTROL = "name with a control character"
    GAP = "gap in the levels"
    UNNAMED = "value in a column without a name"
    NO_FILE = "file that is not there"
    CONTRADICTION = "rows that contradict each other"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row that can be taken; `path` is () for an image without a label. `line` counts from 1."""

    line: int
    found: FoundFile
    path: TaxonomyPath
    product: str | None
    annotator: str | None

    @property
    def file(self) -> Path:
        """The image's file."""
        return Path(self.found.path)


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be taken, and why. `found` is its file where that is known."""

    line: int
    reason: BadReason
    problem: str
    found: FoundFile | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", shorten(self.problem, _LONGEST_PROBLEM))


@dataclass(frozen=True)
class CheckedRows:
    """The rows of a manifest in their order; `empty` are the lines of those with only blank fields."""

    rows: tuple[ManifestRow, ...]
    bad: tuple[BadRow, ...]
    empty: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of rows in the file, without its header."""
        return len(self.rows) + len(self.bad) + len(self.empty)


def check_rows(
    rows: Iterable[CsvRow], columns: Columns, find: Callable[[str], FoundFile | str], *, multi_label: bool
) -> CheckedRows:
    """Return the rows whose files `find` finds, and those that cannot be taken.

    Without `multi_label`, two different paths of one annotator for one file contradict each other.
    """
    checked: list[ManifestRow | BadRow] = []
    empty: list[int] = []
    reader = _RowReader(columns, find)
    for row in rows:
        if row.empty:
            empty.append(row.line)
        else:
            checked.append(reader.read(row))
    usable = [row for row in checked if isinstance(row, ManifestRow)]
    contradictions = {row.line: row for row in _contradictions(usable, multi_label=multi_label)}
    bad = [row for row in checked if isinstance(row, BadRow)] + list(contradictions.values())
    return CheckedRows(
        rows=tuple(row for row in usable if row.line not in contradictions),
        bad=tuple(sorted(bad, key=lambda row: row.line)),
        empty=tuple(empty),
    )


class _RowReader:
    def __init__(self, columns: Columns, find: Callable[[str], FoundFile | str]) -> None:
        self._columns = columns
        self._find = find
        self._paths: dict[TaxonomyPath, TaxonomyPath] = {}  # rows with one label share its path in memory

    def read(self, row: CsvRow) -> ManifestRow | BadRow:
        columns = self._columns
        if row.problem:
            return BadRow(row.line, BadReason.UNREADABLE, row.problem)
        name, *cells = (self._cell(row, column) for column in (columns.file, *columns.levels))
        product, annotator = (self._cell(row, column) for column in (columns.product, columns.annotator))
        for value, column in ((name, "file"), (product, "product"), (annotator, "annotator")):
            if character := unusable_character(value):
                return BadRow(row.line, BadReason.CONTROL, f"{column} {value!r} has {character}")
        if not clean_name(name):
            return BadRow(row.line, BadReason.NO_FILE_NAME, "the column 'file' is blank")
        found = self._find(name)
        if isinstance(found, str):
            return BadRow(row.line, BadReason.NO_FILE, found)
        path = self._path(row.line, found, cells)
        if isinstance(path, BadRow):
            return path
        for position in columns.unnamed:
            if row.fields[position].strip():
                problem = (
                    f"column {position + 1} has no name in the header, but the value {row.fields[position]!r} here"
                )
                return BadRow(row.line, BadReason.UNNAMED, problem, found)
        return ManifestRow(row.line, found, path, clean_name(product) or None, clean_name(annotator) or None)

    def _path(self, line: int, found: FoundFile, cells: Sequence[str]) -> TaxonomyPath | BadRow:
        for level, cell in enumerate(cells, start=1):
            if character := unusable_character(cell):
                return BadRow(line, BadReason.CONTROL, f"level{level} {cell!r} has {character}", found)
        names = [clean_name(cell) for cell in cells]
        depth = next((at for at, name in enumerate(names) if not name), len(names))
        if below := next((at for at in range(depth, len(names)) if names[at]), None):
            problem = f"level{depth + 1} is empty, but level{below + 1} is {names[below]!r}"
            return BadRow(line, BadReason.GAP, problem, found)
        path = tuple(names[:depth])
        return self._paths.setdefault(path, path)

    @staticmethod
    def _cell(row: CsvRow, column: int | None) -> str:
        return "" if column is None else row.fields[column]


def _contradictions(rows: Sequence[ManifestRow], *, multi_label: bool) -> Iterator[BadRow]:
    """Yield the rows of which another row says something else; a row may come twice."""
    first_spelling: dict[str, ManifestRow] = {}
    said: dict[tuple[str, str], list[ManifestRow]] = {}
    products: dict[str, list[ManifestRow]] = {}
    for row in rows:
        path = row.found.path
        same = first_spelling.setdefault(parse_address(file_address(path)).key, row)
        if same.found.path != path:
            yield _contradiction(row, same, f"the file {same.found.name!r}, whose name looks the same,")
        if row.path:
            said.setdefault((path, row.annotator or IMPORT_ANNOTATOR), []).append(row)
        if row.product:
            products.setdefault(path, []).append(row)
    for group in products.values():
        for row, other in _disagreeing(group, lambda row: row.product):
            yield _contradiction(row, other, f"product {row.product!r} here and {other.product!r}")
    for (_, annotator), group in said.items():
        for row, other in () if multi_label else _disagreeing(group, lambda row: row.path):
            by = "" if row.annotator is None else f" by {annotator}"
            paths = f"{format_path(row.path)!r}{by} here and {format_path(other.path)!r}"
            yield _contradiction(row, other, paths)


def _disagreeing(
    rows: Sequence[ManifestRow], value: Callable[[ManifestRow], object]
) -> Iterator[tuple[ManifestRow, ManifestRow]]:
    """Yield each row of a group that does not agree, with the first row that says something else."""
    first: dict[object, ManifestRow] = {}
    for row in rows:
        first.setdefault(value(row), row)
    if len(first) > 1:
        for row in rows:
            yield row, next(other for other_value, other in first.items() if other_value != value(row))


def _contradiction(row: ManifestRow, other: ManifestRow, what: str) -> BadRow:
    problem = f"{row.found.name!r} has {what} in line {other.line}"
    return BadRow(row.line, BadReason.CONTRADICTION, problem, row.found)
