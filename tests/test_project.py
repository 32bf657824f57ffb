"""The project's own promises: settings that are used, dependencies that are listed once, serving without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from taxonomist.backend.settings import Settings

ROOT = Path(__file__).parents[1]


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
