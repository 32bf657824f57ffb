"""Install what the tests need beside this project: `python -m tests.environment`, which `make test` runs.

- `.venv-label-studio`: a real Label Studio, the same that the demo uses, and an empty database for it;
- `.venv-serve`: the dependencies of the plain install, without any extra;
- `.venv-label-studio-ml`: label-studio-ml 1.0.9 with today's Flask, and this project's plain install, without torch;
- `.venv-s3`: moto's S3 server;
- `.venv-azure`: Azurite and a Cosmos DB from npm, and in `.venv-node` node itself where the machine has none;
- a Chromium;
- nginx.

Nothing of it needs root, but the libraries of a Chromium and nginx. A second run finds all of it and ends at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulators
from emulators.system_packages import apt_install, is_root
from taxonomist.backend.demo import server
from taxonomist.backend.demo.environment import Say, label_studio, make_environment, silent
from taxonomist.taxonomy.errors import TaxonomistError

ROOT = Path(__file__).resolve().parent.parent
OTHER_RELEASE = os.environ.get("LABEL_STUDIO_ENVIRONMENT")  # a virtual environment with another Label Studio
LABEL_STUDIO = Path(OTHER_RELEASE or ROOT / ".venv-label-studio")
LABEL_STUDIO_CACHE = LABEL_STUDIO.with_name(f"{LABEL_STUDIO.name}-cache")
LABEL_STUDIO_ML = ROOT / ".venv-label-studio-ml"
S3 = ROOT / ".venv-s3"
SERVE = ROOT / ".venv-serve"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_BROWSER = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def serving_requirements() -> list[str]:
    """Return the dependencies of the plain install, as pyproject.toml lists them."""
    dependencies: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return dependencies


def label_studio_program(progress: Say = silent) -> Path:
    """Return the `label-studio` that the tests run: that of the demo, or the one in `LABEL_STUDIO_ENVIRONMENT`."""
    return LABEL_STUDIO / "bin" / "label-studio" if OTHER_RELEASE else label_studio(LABEL_STUDIO, progress)


def plain_install(progress: Say) -> Path:
    """Return the python of the environment that holds the plain install's dependencies, and what builds the project.

    The project itself is not in it: a test installs today's source beside it.
    """
    return make_environment(SERVE, [[*serving_requirements(), "setuptools>=69"]], progress, title="Plain install")


def label_studio_ml(progress: Say) -> Path:
    """Return the python of the environment that holds label-studio-ml 1.0.9 and this project."""
    needs = ["appdirs", "attrs", "colorama", "label-studio-tools", "lxml", "redis", "requests", "rq"]
    installs = [
        [*needs, *serving_requirements()],
        ["--no-deps", "label-studio-ml==1.0.9"],  # it pins Flask 1.1.2 and more that no modern environment can hold
        ["--no-deps", "--editable", str(ROOT)],
    ]
    return make_environment(LABEL_STUDIO_ML, installs, progress, title="label-studio-ml")


def s3_server(progress: Say = silent) -> Path:
    """Return the python of the environment that holds moto, whose server is an S3."""
    return make_environment(S3, [["moto[s3,server]>=5"]], progress, title="S3 server")


def find_chromium() -> Path | None:
    """Return a Chromium or Chrome of the system, else the one that Playwright installed, else None."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    if MAC_BROWSER.exists():
        return MAC_BROWSER
    from playwright.sync_api import sync_playwright  # slow to import, and often not needed

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def chromium(progress: Say) -> Path:
    """Return the path of a Chromium, installed where there is none: by apt as root, else by Playwright.

    Raises `TaxonomistError` that says how to get one.
    """
    if found := find_chromium():
        return found
    apt_install(["chromium"], progress)
    if found := find_chromium():
        return found
    # Playwright's own needs no root, but libraries of the system, which only root can install.
    options = ["--with-deps"] if is_root() else []
    progress(f"Chromium: playwright {' '.join(['install', *options, 'chromium'])}")
    command = [sys.executable, "-m", "playwright", "install", *options, "chromium"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    found = find_chromium()
    if found and _starts(found):
        return found
    raise TaxonomistError(
        "The tests look at Label Studio through Chromium. There is none on this machine, and it cannot be installed.",
        hint="Install one (`sudo apt-get install chromium`, or "
        f"`sudo {sys.executable} -m playwright install --with-deps chromium`) and run `make test` again; "
        "or leave those tests out with `make test-fast`.",
    )


def _starts(program: Path) -> bool:
    """Return whether a browser finds the libraries of the system that it needs."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def find_nginx() -> Path | None:
    """Return the nginx of the system, which Debian has where only root looks for programs."""
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    return Path(found) if found else None


def nginx(progress: Say = silent) -> Path:
    """Return the path of an nginx, installed by apt as root where there is none.

    Raises `TaxonomistError` that says how to get one.
    """
    if found := find_nginx():
        return found
    apt_install(["nginx-light"], progress)
    if found := find_nginx():
        return found
    raise TaxonomistError(
        "A test sends requests through nginx. There is none on this machine, and it cannot be installed.",
        hint="Install one (`sudo apt-get install nginx-light`) and run `make test` again; or leave the tests that need "
        "it out with `make test-fast`.",
    )


def _with_label_studio(say: Say) -> None:
    program = label_studio_program(say)
    say(f"Label Studio: {program}")
    say(f"Label Studio's empty database: {server.empty_database(program, LABEL_STUDIO_CACHE, say)}")


def _with_our_dependencies(say: Say) -> None:
    say(f"Plain install: {plain_install(say)}")
    say(f"label-studio-ml 1.0.9: {label_studio_ml(say)}")


def _with_others(say: Say) -> None:
    say(f"S3 server: {s3_server(say)}")
    say(f"Azure emulators: {emulators.install(say)}")
    say(f"Chromium: {chromium(say)}")
    say(f"nginx: {nginx(say)}")


def main() -> int:
    """Prepare everything, three things at a time; return the exit status."""

    def say(line: str) -> None:
        print(f"  {line}\n", end="", flush=True)  # noqa: T201 - a command line; one write, since threads share it

    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(part, say) for part in (_with_label_studio, _with_our_dependencies, _with_others)]
    try:
        for part in parts:
            part.result()
    except TaxonomistError as error:
        print(f"\n{error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
