"""The project's own promises: settings that are used, dependencies that are listed once, a start without extras."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

from taxonomist.backend.extras import MODULES, Extra
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.project_settings import FIELDS

ROOT = Path(__file__).parents[1]


def test_every_setting_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "backend").rglob("*.py") if path.name != "settings.py"
    )
    own = (ROOT / "backend" / "settings" / "settings.py").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        used = re.search(rf"settings\.{name}\b", code) or f"self.{name}" in own
        assert used or name in FIELDS.values(), name  # FIELDS: read by way of a project's settings


def test_each_dependency_is_listed_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [re.split(r"[<>=@ ]", requirement)[0] for requirements in lists for requirement in requirements]
    others = [name for name in names if not name.startswith(project["name"])]
    assert len(others) == len(set(others))
    assert not [requirement for requirements in lists for requirement in requirements if "@" in requirement]


def without_extras() -> list[str]:
    """Return what the contracts of import-linter forbid where server, worker and command line start."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    started = [contract["forbidden_modules"] for contract in contracts if "start without" in contract["name"]]
    assert len(started) == 2
    return [module for modules in started for module in modules]


def test_server_worker_and_command_line_start_without_extras_and_sdk() -> None:
    modules = ", ".join(f"taxonomist.backend.{name}" for name in ("web.app", "web.server", "cli", "worker.worker"))
    every_command = "dict(typer.main.get_command(taxonomist.backend.cli.app).commands)"
    show = "print(*{name.partition('.')[0] for name in sys.modules})"
    code = f"import sys, typer.main, {modules}; {every_command}; {show}"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"flask", "numpy"} <= loaded
    assert not loaded & {*without_extras(), "label_studio_sdk", "pandas", "cv2"}


def test_extras_know_what_pyproject_lists() -> None:
    """Each package of an extra has a module by which `backend.extras` finds it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {"scikit-learn": "sklearn"}
    for extra in get_args(Extra):
        names = [re.split(r"[<>=]", requirement)[0] for requirement in extras[extra] if "[" not in requirement]
        expected = {modules.get(name, name.replace("-", ".") if name.startswith("azure") else name) for name in names}
        assert expected <= set(MODULES[extra])


def test_imports_inside_functions_say_why() -> None:
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("backend", "training", "inference", "storage", "taxonomy", "deploy")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "noqa: PLC0415" in line and not re.search(r"noqa: PLC0415 - \w", line)
    ]
    assert not lines
