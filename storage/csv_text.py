"""CSV of any common dialect, read strictly (RFC 4180): a fault names its line and costs that row only.

Python's `csv` takes a stray quote as a letter, and a quote that is never closed swallows the rest of the file without
saying where it began. So the grammar is checked here: a field is quoted, with doubled quotes inside, or has no quote.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.taxonomy.errors import ConfigError

__all__ = ["CsvRow", "CsvTable", "for_spreadsheets", "from_spreadsheets", "open_csv"]

DELIMITERS = (",", ";", "\t")
MOST_LINES = 1000  # of one row; a quote that is open for longer was never closed
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMED_DELIMITER = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)  # the first line that Excel understands
# What a spreadsheet takes for a formula, also after it was prefixed; numbers are none. Some spreadsheets take the wide
# signs of East Asia for plain ones; a control character may be left out, so that a sign comes first.
_FORMULA = re.compile(
    r"(?![+-]?\d[\d.]*(?:e[+-]?\d+)?\Z)'*[=+@\x00-\x1f\x7f\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b-]",
    re.ASCII | re.IGNORECASE,
)
_UNDECODED = re.compile("[\udc80-\udcff]")
_AS_UTF8 = 'Save the file as "CSV UTF-8".'


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row. `line` is the line of the file on which it begins, counted from 1.

    `problem` says why the row cannot be read; it then has no fields. An empty row has only blank fields.
    """

    line: int
    fields: tuple[str, ...]
    problem: str | None = None

    @property
    def empty(self) -> bool:
        """Whether all fields are blank."""
        return self.problem is None and not any(field.strip() for field in self.fields)


@dataclass(frozen=True)
class CsvTable:
    """A CSV file whose header was read: its columns as they are written, and its rows, which can be read once."""

    columns: tuple[str, ...]
    delimiter: str
    rows: Iterator[CsvRow]


def for_spreadsheets(row: Iterable[object]) -> list[object]:
    """Return a row to write. A text that a spreadsheet would take for a formula begins with "'"; numbers stay.

    >>> for_spreadsheets(["=1+1", "'=1", -1, "a=b"])
    ["'=1+1", "''=1", -1, 'a=b']
    """
    return [f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value for value in row]


def from_spreadsheets(field: str) -> str:
    """Return the text of which `for_spreadsheets` made a field; any other as it is."""
    return field[1:] if field[:1] == "'" and _FORMULA.match(field) else field


def open_csv(file: Path, known: Callable[[str], bool]) -> CsvTable:
    """Return the header of a CSV file and its rows, which are parsed as they are read; blank lines are skipped.

    The encoding is UTF-8 or UTF-16, with or without a byte order mark. The delimiter is the one of comma, semicolon and
    tab that gives the most columns for which `known` is true. Fields are read as `from_spreadsheets` does. Raises
    `ConfigError` when the file cannot be read or has no header.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"There is no file {file}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from None
    lines = list(io.StringIO(_decode(data, file), newline=""))
    named = _NAMED_DELIMITER.fullmatch(lines[0]) if lines else None
    start = next((at for at in range(1 if named else 0, len(lines)) if lines[at].strip()), None)
    if start is None:
        raise ConfigError(f"{file} is empty.", hint="Its first line must name the columns.")
    first = start
    candidates = [_Reader(lines, delimiter) for delimiter in ([named[1]] if named else DELIMITERS)]
    reader = max(candidates, key=lambda reader: sum(map(known, reader.row(first)[0].fields)))
    header, start = reader.row(start)
    if header.problem:
        raise ConfigError(f"{file}, line {header.line}: {header.problem}.")
    return CsvTable(header.fields, reader.delimiter, reader.rows(start, len(header.fields)))


def _decode(data: bytes, file: Path) -> str:
    """Return the text. Bytes that are not UTF-8 become single surrogates, so that a row can name them."""
    mark, encoding = next(((mark, name) for mark, name in _ENCODINGS if data.startswith(mark)), (b"", "utf-8"))
    if not mark and len(data) > 1 and (data[0] == 0) != (data[1] == 0):
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    body = data[len(mark) :]
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            return body.decode(encoding, "surrogateescape")
        line = body[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise ConfigError(f"{file}, line {line}: not {encoding[:6].upper()} ({error.reason}).", hint=_AS_UTF8) from None


class _Reader:
    def __init__(self, lines: Sequence[str], delimiter: str) -> None:
        self.delimiter = delimiter
        self._lines = lines
        quoted, plain = r' *"((?:[^"]|"")*+)" *', rf'([^"\r\n{delimiter}]*+)'
        self._field = re.compile(rf"(?:{quoted}|{plain})(?:{delimiter}|$)")
        self._row = re.compile(rf"(?:(?:{quoted}|{plain}){delimiter})*+(?:{quoted}|{plain})")

    def rows(self, start: int, columns: int) -> Iterator[CsvRow]:
        """Yield the rows from a line on, without blank lines."""
        while start < len(self._lines):
            if not self._lines[start].strip("\r\n "):
                start += 1
                continue
            row, start = self.row(start)
            if not row.problem and len(row.fields) != columns and not row.empty:
                seen = f"{len(row.fields)} fields, but the header has {columns}"
                row = CsvRow(row.line, (), f"{seen} (delimiter {self.delimiter!r})")
            yield row

    def row(self, start: int) -> tuple[CsvRow, int]:
        """Return the row that begins on a line (from 0) and the line after it.

        A row with a fault ends with its first line, so that a quote that is not closed costs no other row.
        """
        end = self._end(start)
        if end is None:
            return self._fault(start, 'a quote (") opens a field and is not closed')
        text = "".join(self._lines[start:end]).rstrip("\r\n")
        if found := _UNDECODED.search(text):
            return self._fault(start, f"the byte 0x{ord(found[0]) - 0xDC00:02X} is not UTF-8; {_AS_UTF8[:-1]}")
        if '"' not in text:
            return CsvRow(start + 1, tuple(map(from_spreadsheets, text.split(self.delimiter)))), end
        if not self._row.fullmatch(text):
            return self._fault(start, 'a stray quote ("); a field with quotes is written "like ""this"""')
        return CsvRow(start + 1, tuple(map(from_spreadsheets, self._fields(text)))), end

    def _end(self, start: int) -> int | None:
        """Return the line after a row: the first one at which all quotes are closed. None: there is none."""
        quotes = 0
        for end in range(start, min(start + MOST_LINES, len(self._lines))):
            quotes += self._lines[end].count('"')
            if quotes % 2 == 0:
                return end + 1
        return None

    def _fields(self, text: str) -> Iterator[str]:
        position = 0
        while True:
            match = self._field.match(text, position)
            assert match is not None  # the row was checked
            yield match[2] if match[1] is None else match[1].replace('""', '"')
            if not match[0].endswith(self.delimiter):
                return
            position = match.end()

    def _fault(self, start: int, problem: str) -> tuple[CsvRow, int]:
        return CsvRow(start + 1, (), problem), start + 1
