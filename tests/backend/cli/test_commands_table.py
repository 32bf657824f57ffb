"""The table of the commands: it lists what each module has, and a call imports only its own module."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from taxonomist.backend.cli.commands import MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_the_commands_that_the_table_names(module: str) -> None:
    part = typer.Typer()
    import_module(f"taxonomist.backend.cli.{module}").register(part)
    assert tuple(typer.main.get_group(part).commands) == MODULES[module]


def test_serve_imports_no_stores_and_no_other_command() -> None:
    code = (
        "import sys, taxonomist.backend.cli as cli\n"
        "sys.argv = ['taxonomist', 'serve', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "names = {'services', 'worker', 'web.app', 'cli.options', 'cli.worker', 'cli.training'}\n"
        "loaded = {f'taxonomist.backend.{name}' for name in names} | {'onnxruntime', 'PIL'}\n"
        "loaded.add('taxonomist.storage.sqlite')\n"
        "assert not loaded & sys.modules.keys(), loaded & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, timeout=60)


def test_an_unknown_command_names_a_similar_one() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taxonomist", "serv"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "serve" in done.stderr
