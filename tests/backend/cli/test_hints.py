"""What errors and checks tell people to type: every option and every command in them exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from taxonomist.backend.cli import app
from taxonomist.backend.settings import Settings

ROOT = Path(__file__).parents[3]
PACKAGES = ("backend", "training", "inference", "storage", "taxonomy")
FOREIGN = {  # options of other programs
    "--help",  # every command's
    "--name",  # az
    "--upgrade",  # pip
    *("--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--standalone", "--child"),  # torchrun
    *("--no-browser", "--internal-host", "--port", "--data-dir", "--version"),  # Label Studio
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"(?:`|^|, or |, then )taxonomist ([a-z-]+(?: [a-z-]+)?)")


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its path, such as "models rollback"."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = {
    option
    for command in COMMANDS.values()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text of the code besides docstrings, with its place. Of an f-string, the fixed parts."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ast.parse(path.read_text(encoding="utf-8"))
            docstrings = {
                id(node.body[0].value)
                for node in ast.walk(module)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
                if isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(module):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_every_option_in_a_text_exists() -> None:
    sentences = [(place, text) for place, text in texts() if " " in text.strip()]  # others are arguments of programs
    found = [(place, option) for place, text in sentences for option in _OPTION.findall(text)]
    assert {"--preset", "--fresh", "--project", "--images"} <= {option for _, option in found}
    unknown = [(place, option) for place, option in found if option not in OPTIONS | FOREIGN]
    assert not unknown


def test_every_command_in_a_text_exists() -> None:
    found = [(place, words) for place, text in texts() for words in _COMMAND.findall(text)]
    assert len(found) > 30
    for place, words in found:
        first, *rest = words.split()
        if first == "serves":  # a sentence
            continue
        assert first in COMMANDS, (place, words)
        if rest and hasattr(COMMANDS[first], "commands"):
            assert f"{first} {rest[0]}" in COMMANDS, (place, words)


def test_every_variable_in_a_text_is_a_setting() -> None:
    found = [(place, name) for place, text in texts() for name in re.findall(r"TAXONOMIST_([A-Z_]*[A-Z])", text)]
    assert len(found) > 30
    assert not [(place, name) for place, name in found if name.lower() not in Settings.model_fields]
