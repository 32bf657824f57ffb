"""CSV as people save it: every dialect is understood, every fault names its line and costs that row only."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.storage.csv_text import CsvTable, open_csv
from taxonomist.taxonomy.errors import ConfigError


def table(folder: Path, data: bytes | str) -> CsvTable:
    file = folder / "table.csv"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return open_csv(file, {"file", "level1"}.__contains__)


def fields(folder: Path, data: bytes | str) -> list[tuple[str, ...]]:
    return [row.fields for row in table(folder, data).rows]


def problems(folder: Path, data: bytes | str) -> list[tuple[int, str]]:
    return [(row.line, row.problem) for row in table(folder, data).rows if row.problem]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_dialects(tmp_path: Path, delimiter: str, encoding: str, mark: bytes) -> None:
    text = f'file{delimiter}level1\r\na.jpg{delimiter}Küche\r\nb.jpg{delimiter}"x{delimiter}""y"""\r\n'
    read = table(tmp_path, mark + text.encode(encoding))
    assert (read.columns, read.delimiter) == (("file", "level1"), delimiter)
    assert [row.fields for row in read.rows] == [("a.jpg", "Küche"), ("b.jpg", f'x{delimiter}"y"')]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_the_file(tmp_path: Path, end: str) -> None:
    """Blank lines and quoted line breaks count; U+2028, U+0085 and U+000B do not end a line."""
    lines = ["", "file,level1", "a.jpg,x", "", 'b.jpg,"two', 'lines"', "c.jpg,\u2028\x85\x0b", "d.jpg,1,2"]
    rows = list(table(tmp_path, end.join(lines)).rows)
    assert [row.line for row in rows] == [3, 5, 7, 8]
    assert rows[1].fields == ("b.jpg", f"two{end}lines")
    assert rows[3].problem == "3 fields, but the header has 2 (delimiter ',')"


def test_excel_names_its_delimiter(tmp_path: Path) -> None:
    read = table(tmp_path, "sep=;\nfile;level1\na,b.jpg;x\n")
    assert [(row.line, row.fields) for row in read.rows] == [(3, ("a,b.jpg", "x"))]


@pytest.mark.parametrize(
    ("row", "line", "problem"),
    [
        ('b.jpg,"Bed 24', 3, "opens a field and is not closed"),
        ('b.jpg,Bed 24"', 3, "opens a field and is not closed"),
        ('b.jpg,24" by 30"', 3, "stray quote"),
        ('b.jpg,"Bed" 24', 3, "stray quote"),
        ('b.jpg,"Bed "24" wide"', 3, "stray quote"),
        ("b.jpg,Bed, 24", 3, "3 fields, but the header has 2"),
        ("b.jpg,Bed,", 3, "3 fields"),
        ("b.jpg", 3, "1 fields"),
    ],
)
def test_a_fault_costs_its_row_only(tmp_path: Path, row: str, line: int, problem: str) -> None:
    text = f"file,level1\na.jpg,x\n{row}\nc.jpg,x\nd.jpg,x\n"
    assert [(found, problem in text) for found, text in problems(tmp_path, text)] == [(line, True)]
    assert fields(tmp_path, text)[2:] == [("c.jpg", "x"), ("d.jpg", "x")]


def test_two_stray_quotes_that_pair_up_do_not_swallow_the_rows_between(tmp_path: Path) -> None:
    """Together they look like one field of four lines; the text after it shows that they are not."""
    text = 'file,level1\na.jpg,"Bed 24,p\nb.jpg,x\nc.jpg,"Bed 24,p\nd.jpg,x\n'
    assert [line for line, _ in problems(tmp_path, text)] == [2, 4]
    assert [row for row in fields(tmp_path, text) if row] == [("b.jpg", "x"), ("d.jpg", "x")]


def test_a_quote_that_is_never_closed_costs_no_time(tmp_path: Path) -> None:
    text = 'file,level1\n"a.jpg,x\n' + "b.jpg,x\n" * 50_000
    assert [line for line, _ in problems(tmp_path, text)] == [2]


def test_bytes_that_are_not_utf8_name_their_row(tmp_path: Path) -> None:
    data = "file,level1\na.jpg,x\nb.jpg,Küche\nc.jpg,x\n".encode("cp1252")
    assert problems(tmp_path, data) == [(3, 'the byte 0xFC is not UTF-8; Save the file as "CSV UTF-8"')]


def test_a_truncated_utf16_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: not UTF-16"):
        table(tmp_path, codecs.BOM_UTF16_LE + "file\na".encode("utf-16-le") + b"\x41")


@pytest.mark.parametrize("data", ["", "\n\n", "\ufeff", "  \n"])
def test_an_empty_file_is_refused(tmp_path: Path, data: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        table(tmp_path, data)


def test_empty_rows(tmp_path: Path) -> None:
    rows = list(table(tmp_path, "file,level1\n,\na.jpg,\n , ,,\n").rows)
    assert [row.empty for row in rows] == [True, False, True]


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=2)),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_pythons_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["file", "level1"], *rows])
    read = list(table(tmp_path_factory.mktemp("csv"), out.getvalue()).rows)
    assert [row.problem for row in read] == [None] * len(rows)
    assert [list(row.fields) for row in read] == rows
