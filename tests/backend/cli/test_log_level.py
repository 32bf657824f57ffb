"""Which messages a command logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.cli.conftest import Run


@pytest.fixture(autouse=True)
def kept_logging() -> Iterator[None]:
    """Restore the handlers and the level of pytest, which a command replaces."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("command", [["models", "list"], ["data", "query", "--out", "query"], ["prepare"]])
def test_the_variable_counts_for_every_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(*command)
    assert logging.getLogger().level == logging.WARNING
    monkeypatch.setenv("TAXONOMIST_LOG_LEVEL", "info")
    run(*command)
    assert logging.getLogger().level == logging.INFO
    run("--log-level", "error", *command)
    assert logging.getLogger().level == logging.ERROR
    monkeypatch.delenv("TAXONOMIST_LOG_LEVEL")
    (tmp_path / "taxonomist.toml").write_text('log_level = "DEBUG"\n')
    run(*command)
    assert logging.getLogger().level == logging.DEBUG
