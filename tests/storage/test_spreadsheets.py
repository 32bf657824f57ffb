"""Texts that a spreadsheet would run as formulas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from taxonomist.storage.csv_text import for_spreadsheets, from_spreadsheets, open_csv

FORMULAS = ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://evil.test")', "-", "=", "+a"]
FORMULAS += [
    "＝1+1",
    "＋1",
    "－1+1",
    "＠SUM(A1)",
    "﹦1",
    "﹢1",
    "﹣1",
    "﹫a",
    "\n=1",
    "\x00=1",
    "\x0b=1",
    "\x7f=1",
    "-٣",
]
OTHERS = ["", "a=b", "'", "'a", "a'", "4", "-1.5", "+3e-5", "-12", "https://h.test/a?b=1", " =1", "Müller"]


@pytest.mark.parametrize("text", [*FORMULAS, *(f"'{text}" for text in FORMULAS), *(f"''{text}" for text in FORMULAS)])
def test_a_formula_is_prefixed_and_read_back(text: str) -> None:
    [field] = for_spreadsheets([text])
    assert field == f"'{text}"
    assert from_spreadsheets(str(field)) == text


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_stay(text: str) -> None:
    assert for_spreadsheets([text, 5, -1.5]) == [text, 5, -1.5]
    assert from_spreadsheets(text) == text


def test_a_table_is_read_back_unchanged(tmp_path: Path) -> None:
    rows = [(text, f"'{text}") for text in (*FORMULAS, *OTHERS) if not {"\r", "\x00"} & set(text)]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("file", "level1"), *map(for_spreadsheets, rows)])
    (tmp_path / "a.csv").write_text(out.getvalue(), newline="")
    assert not any(
        field.startswith(("=", "@", "\t", "＝")) for row in csv.reader(io.StringIO(out.getvalue())) for field in row
    )
    table = open_csv(tmp_path / "a.csv", {"file", "level1"}.__contains__)
    assert [row.fields for row in table.rows] == [row for row in rows if any(row)]
