"""Tables of a study as files."""

from __future__ import annotations

import csv

from taxonomist.training.study.scores import Gain, Stat
from taxonomist.training.study.tables import Cell, Table


def test_names_of_classes_are_no_formulas() -> None:
    names = ("=1+1", "+1+1", "-2+3", "@SUM(A1)", "＝1", "plain")
    rows: list[list[Cell]] = [[name, Stat.of([-0.25, -0.25]), number] for number, name in enumerate(names, start=-1)]
    header, *lines = csv.reader(Table("t", "T", ("Label", "F1", "Images"), rows).csv().splitlines())
    assert header == ["Label", "F1", "F1 sd", "Images"]
    assert [line[0] for line in lines] == [*(f"'{name}" for name in names[:-1]), "plain"]
    assert lines[0][1:] == ["-0.2500", "0.0000", "-1"]  # numbers stay numbers


def test_an_interval_is_three_numbers() -> None:
    found = Table("t", "T", ("F1 gained",), [[Gain(0.1, -0.05, 0.25)]], digits=3)
    assert "| +0.100 (-0.050 to +0.250) |" in found.markdown()
    assert found.csv() == "F1 gained,F1 gained low,F1 gained high\n0.1000,-0.0500,0.2500\n"
