"""What listings say on an empty home: what is missing, and how to begin."""

from __future__ import annotations

from tests.backend.cli.conftest import Run, run_json


def test_listings_say_how_to_begin(run: Run) -> None:
    assert "`taxonomist embed`" in run("backbone", "list")[1]
    assert run_json(run, "backbone", "list") == []  # this makes the home
    assert "`taxonomist import` or `taxonomist connect`" in run("projects")[1]
    assert run_json(run, "projects") == []
    code, _, err = run("backbone", "adopt")
    assert code == 2
    assert "`taxonomist backbone list` shows the versions." in err
