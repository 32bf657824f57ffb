"""Checks whether our command line accepts a command that is written in a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import typer.main

from taxonomist.backend.cli import app
from taxonomist.backend.services import Services


@cache
def command_tree() -> Any:
    """Return the whole command line as a click command."""
    return typer.main.get_command(app)


def check(words: Sequence[str], services: Services) -> None:
    """Raise the error of a wrong call: an unknown option, a value of a wrong type, a missing value.

    `words` come after `taxonomist`. Nothing is run.
    """
    rest = list(words)
    command = command_tree()
    parent = typer.Context(command, obj=services)
    while hasattr(command, "commands"):
        while rest[0].startswith("-"):
            assert rest[0] in {name for option in command.params for name in option.opts}, rest[0]
            del rest[:2]
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest, parent=parent)
