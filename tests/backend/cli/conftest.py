"""Commands in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from taxonomist.backend.cli import main
from taxonomist.backend.services import Services

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `taxonomist …` on the test's home folder: (exit code, standard output, standard error)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        home = ("--home", str(services.settings.home))
        monkeypatch.setattr(sys, "argv", ["taxonomist", *home, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


def run_json(run: Run, *arguments: object) -> Any:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)
