"""What commands print, when it has characters that control a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from taxonomist.backend.cli import output
from taxonomist.backend.cli.output import print_error, print_fields, print_json, print_line, print_table, step_bar
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
