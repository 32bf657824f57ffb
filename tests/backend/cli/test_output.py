"""What commands print, when it has characters that control a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from taxonomist.backend.cli import output
from taxonomist.backend.cli.output import (
    count_bar,
    print_csv,
    print_error,
    print_fields,
    print_json,
    print_json_lines,
    print_line,
    print_table,
    step_bar,
    without_middle,
)
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.cli.conftest import Run

ODD = "a\x1b[2Jb\x9b2Jc\u202ed\x07e\re\u2028f[/x]g"


def show_progress() -> None:
    with step_bar(ODD) as progress:
        progress(ODD, 0.5)


@pytest.mark.parametrize(
    "show",
    [
        lambda: print_line(ODD),
        lambda: print_error(ConfigError(ODD, hint=ODD)),
        lambda: print_table(ODD, ["column"], [[ODD]]),
        lambda: print_fields({"name": ODD}),
        lambda: print_json({"name": ODD}),
        lambda: print_json_lines([{"name": ODD}]),
        lambda: print_csv([["name"], [ODD]]),
        show_progress,
    ],
)
def test_no_text_controls_the_terminal(
    show: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=printed, width=200, highlight=False))
    monkeypatch.setattr(output, "err", Console(file=printed, width=200, highlight=False))
    show()
    text = printed.getvalue() + capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert all(part in text for part in ("a", "b", "[/x]g"))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed to a terminal of 80 columns."""
    printed = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=printed, width=80, highlight=False))
    return printed


def test_long_paths_in_a_table_keep_both_ends(printed: io.StringIO) -> None:
    rows = [(f"/data/{'langer-ordner/' * 20}stühle-{n}.jpg", "Möbel › Stuhl › Küchenstuhl", n) for n in range(3)]
    print_table("Images", ["image", "label", "n"], rows, places=["image"])
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + 3 + 3 + 1  # title, head, a line for each row, and the end
    for n in range(3):
        assert f"stühle-{n}.jpg │ Möbel › Stuhl › Küchenstuhl │ {n} │" in lines[4 + n]
        assert lines[4 + n].startswith("│ /data/langer-")


def test_a_table_that_fits_is_not_shortened(printed: io.StringIO) -> None:
    print_table("Images", ["image", "label"], [("a" * 60, "chair")], places=["image"])
    assert "a" * 60 in printed.getvalue()


def test_wide_characters_have_two_cells() -> None:
    assert without_middle("浴室浴室浴室浴室", 9) == "浴…室浴室"
    assert without_middle("/data/upload/4/3f2a-chair.jpg\nb.jpg", 18) == "/data…2a-chair.jpg\nb.jpg"


def test_no_bar_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda _, task, completed, **more: shown.append(completed))
    with step_bar("Train") as progress:
        for share in (0.1, 0.5, 0.3, 0.9, 0.0, 1.0):
            progress("step", share)
    assert shown == [0.1, 0.5, 0.5, 0.9, 0.9, 1.0]
    shown.clear()
    with count_bar("Embed") as count:
        for done in (1, 3, 2, 4):
            count(done, 4)
    assert shown == [1, 3, 3, 4]


def test_the_name_of_a_file_is_shown_as_it_is(run: Run, tmp_path: Path) -> None:
    """It is no markup, and controls nothing."""
    file = tmp_path / "a[bold]b\x1b[2Jc[x.csv"
    file.write_text("file,level1\na.jpg,b\n")
    _, _, err = run("import", file, "--project", "p")
    assert "Importing a[bold]b\\x1b[2Jc[x.csv" in err
    assert "\x1b" not in err


def test_json_stays_the_same_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": ODD, "größe": "雪\U0001f600"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": ODD, "größe": "雪\U0001f600"}
    assert "größe" in text
