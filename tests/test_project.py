"""The project's own promises: documentation that cannot go stale, and serving without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from taxonomist.backend.cli import app
from taxonomist.backend.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `TAXONOMIST_([A-Z_]+)` \| (.*?) \| (.*?) \|$", README, flags=re.MULTILINE)
    return {name.lower(): (default, text) for name, default, text in rows}


def shown_default(name: str) -> str:
    field = Settings.model_fields[name]
    if name == "home":
        return "the user's data folder"
    value = field.get_default(call_default_factory=True)
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return (
        f"`{value:g}`" if isinstance(value, float) and value != 2 / 3 else "`2/3`" if value == 2 / 3 else f"`{value}`"
    )


def test_readme_lists_every_setting_with_its_default() -> None:
    table = settings_table()
    assert list(table) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert table[name] == (shown_default(name), field.description), name


def commands() -> set[str]:
    root = typer.main.get_command(app)
    names = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names |= {f"{name} {each}" for each in inner} if inner else {name}
    return names


def test_readme_lists_every_command() -> None:
    assert set(re.findall(r"^\| `taxonomist ([a-z ]+)` \|", README, flags=re.MULTILINE)) == commands()


@pytest.mark.parametrize("command", sorted(commands()))
def test_help_has_an_example(command: str) -> None:
    node = typer.main.get_command(app)
    for part in command.split():
        node = node.commands[part]  # type: ignore[attr-defined]
    assert node.help
    assert "taxonomist " in (node.epilog or "")


def test_every_setting_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "backend").rglob("*.py") if path.name != "settings.py"
    )
    own = (ROOT / "backend" / "settings.py").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert re.search(rf"settings\.{name}\b", code) or f"self.{name}" in own, name


def test_each_dependency_is_listed_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [re.split(r"[<>=@ ]", requirement)[0] for requirements in lists for requirement in requirements]
    others = [name for name in names if not name.startswith(project["name"])]
    assert len(others) == len(set(others))
    assert not [requirement for requirements in lists for requirement in requirements if "@" in requirement]


def test_serving_imports_no_torch() -> None:
    modules = ", ".join(f"taxonomist.backend.{name}" for name in ("web.app", "web.serve", "cli", "worker.worker"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
