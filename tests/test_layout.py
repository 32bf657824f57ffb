"""Rules between the folders that are not packages of `taxonomist`, and the Makefile. import-linter holds the rest."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "benchmarks": {"tests"},
    "emulators": {"tests", "benchmarks"},
    "src": {"tests", "benchmarks", "emulators"},
    "backend": {"tests", "benchmarks", "emulators"},
    "training": {"tests", "benchmarks", "emulators"},
    "inference": {"tests", "benchmarks", "emulators"},
    "storage": {"tests", "benchmarks", "emulators"},
    "taxonomy": {"tests", "benchmarks", "emulators"},
}


def imported(file: Path) -> set[str]:
    """Return the top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {str(file.relative_to(ROOT)): sorted(imported(file) & FORBIDDEN[folder]) for file in files}
    assert {file: names for file, names in wrong.items() if names} == {}


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE)
    phony = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert " ".join(phony).split() == targets
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^make ([a-z-]+) ", done.stdout, flags=re.MULTILINE) == targets


def test_make_without_a_target_gives_help() -> None:
    done = subprocess.run(["make", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make help" in done.stdout
