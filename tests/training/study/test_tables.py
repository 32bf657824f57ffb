"""Tables of a study as files."""

from __future__ import annotations

import csv

from taxonomist.training.study.scores import Stat
from taxonomist.training.study.tables import Table


def test_names_of_classes_are_no_formulas() -> None:
    names = ("=1+1", "+1+1", "-2+3", "@SUM(A1)", "＝1", "plain")
    rows: list[list[str | int | Stat]] = [
        [name, Stat.of([-0.25, -0.25]), number] for number, name in enumerate(names, start=-1)
    ]
    header, *lines = csv.reader(Table("t", "T", ("Label", "F1", "Images"), rows).csv().splitlines())
    assert header == ["Label", "F1", "F1 sd", "Images"]
    assert [line[0] for line in lines] == [*(f"'{name}" for name in names[:-1]), "plain"]
    assert lines[0][1:] == ["-0.2500", "0.0000", "-1"]  # numbers stay numbers
