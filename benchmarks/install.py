"""What the plain install weighs, and how fast the command line and the server start, beside an earlier commit.

    git worktree add ../before 078dd32
    python -m benchmarks.install --before ../before --output benchmarks/results/2026-11-27-install.md

The plain install is made: `pip install .` into an empty environment. The earlier commit's dependencies are not
installed again: their size is that of the distributions that its list pulls in, as this environment has them. Both are
started with this environment's Python, in turn, so that they have the same packages and the same neighbours.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.measure import Spread, machine

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("src", "backend", "training", "inference", "storage", "taxonomy")
SHOWN = 12
WEIGHS = {
    "pandas": "label-studio-sdk",
    "opencv-python-headless": "label-studio-sdk",
    "faker": "label-studio-sdk",
    "datamodel-code-generator": "label-studio-sdk",
    "nltk": "label-studio-sdk",
    "lxml": "label-studio-sdk",
}


def name_of(text: str) -> str:
    """Return the normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", text).lower()


def closure(requirements: Sequence[str]) -> dict[str, Distribution]:
    """Return the installed distributions that these requirements pull in, by normalised name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        found[name_of(requirement.name)] = package
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                waiting += [(Requirement(text), wanted) for text in package.requires or ()]
    return found


def size_of(package: Distribution) -> int:
    """Return the bytes of a distribution's files."""
    files = [Path(str(file.locate())) for file in package.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file())


def size_of_folder(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def plain_install(folder: Path) -> tuple[Path, int, dict[str, int]]:
    """Install the project into an empty environment; return its Python, the bytes that this added, and those of each
    distribution."""
    for name in PACKAGES:  # copied, since a build leaves files beside the source
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    python = folder / "environment" / "bin" / "python"
    site = next((folder / "environment" / "lib").glob("python*/site-packages"))
    empty = size_of_folder(site)
    options = ["--quiet", str(folder / "source")]
    subprocess.run([str(python), "-m", "pip", "install", *options], check=True, stderr=subprocess.DEVNULL)
    distributions = {name_of(found.name): size_of(found) for found in Distribution.discover(path=[str(site)])}
    return python, size_of_folder(site) - empty, distributions


def help_s(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds of processor time and of the clock of `--help`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "--help"], env=dict(environment), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def ready_s(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the seconds from the start of `serve --no-worker` to the first good answer of /readyz."""
    with socket.socket() as found, tempfile.TemporaryDirectory() as home:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        variables = {"TAXONOMIST_HOME": home, "TAXONOMIST_PORT": str(port), "TAXONOMIST_LOG_LEVEL": "ERROR"}
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "serve", "--no-worker"],
            env={**environment, **variables},
            cwd=home,  # the earlier commit dies where the folder has a package that is called like one of its own
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while time.perf_counter() - began < 120:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    return time.perf_counter() - began
                time.sleep(0.01)
            raise RuntimeError("The server did not become ready.")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.install", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier commit")
    parser.add_argument("--output", type=Path, required=True, help="the table, as Markdown")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    before = options.before.resolve()
    describe = ["git", "-C", str(before), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    old = tomllib.loads((before / "pyproject.toml").read_text())["project"]["dependencies"]
    old_sizes = {name: size_of(package) for name, package in closure(old).items()}

    folder = Path(tempfile.mkdtemp())
    python, added, sizes = plain_install(folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAXONOMIST_", "PYTHONPATH"))}
    call = "from backend.cli import main; import sys; sys.argv[0] = 'taxonomist'; main()"
    sides = {
        f"before, {commit}": ([sys.executable, "-P", "-c", call], {**clean, "PYTHONPATH": str(before)}),
        "after, the same environment": (
            [sys.executable, "-P", "-m", "taxonomist"],
            {**clean, "PYTHONPATH": str(ROOT / "src")},
        ),
        "after, the plain install": ([str(python.with_name("taxonomist"))], clean),
    }
    taken: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    for number in range(options.rounds + 1):
        for side, (command, environment) in sides.items():
            values = (*help_s(command, environment), ready_s(command, environment))
            if number:  # the first fills the disk's cache
                taken[side].append(values)
    options.output.write_text(report(old_sizes, added, sizes, taken, commit), encoding="utf-8")
    shutil.rmtree(folder)


def cuda(sizes: Mapping[str, int]) -> int:
    """Return the bytes of CUDA's libraries, torch's own kernels apart."""
    return sum(size for name, size in sizes.items() if name.startswith(("nvidia-", "triton", "cuda-")))


def report(
    old: Mapping[str, int],
    added: int,
    sizes: Mapping[str, int],
    taken: Mapping[str, Sequence[tuple[float, float, float]]],
    commit: str,
) -> str:
    """Return the table as Markdown."""
    about = machine()
    lines = [
        "# The install: size and start",
        "",
        f"`python -m benchmarks.install --before CHECKOUT-OF-{commit} --output …`; "
        f"{about['cpu']}, {about['cores']} cores, Python {about['python']}.",
        "",
        "| `pip install .` | MB (10⁶ bytes) | packages |",
        "| --- | ---: | ---: |",
        f"| before, {commit}: one list, with torch, CUDA's libraries and Azure's SDKs "
        f"| {sum(old.values()) / 1e6:,.0f} | {len(old)} |",
        f"| after: the plain install, with the project itself | {added / 1e6:,.0f} | {len(sizes) - 2} |",
        "",
        f"Before is counted by the files of the distributions that the old list pulls in. {cuda(old) / 1e6:,.0f} MB",
        "of that are libraries of CUDA, which torch for the CPU alone does not bring. After is what was added to an",
        "empty environment, bytecode included.",
        "",
        "What weighs in the plain install:",
        "",
        "| package | MB | needed by |",
        "| --- | ---: | --- |",
    ]
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    shown = [item for item in largest if item[0] not in {"pip", "setuptools"}][:SHOWN]
    lines += [f"| {name} | {size / 1e6:.0f} | {WEIGHS.get(name, 'us')} |" for name, size in shown]
    lines += [
        "",
        "label-studio-sdk declares pandas, OpenCV and more. Its converters use them, our calls to its API do not. They",
        "lie on the disk, and no process of ours imports them before it calls Label Studio.",
        "",
        f"Start, {len(next(iter(taken.values())))} rounds in turn, median (lowest to highest), in seconds:",
        "",
        "| | `taxonomist --help`, processor | clock | `serve --no-worker` to `/readyz` |",
        "| --- | ---: | ---: | ---: |",
    ]
    for side, rounds in taken.items():
        cells = [Spread.of(values) for values in zip(*rounds, strict=True)]
        lines.append(f"| {side} | " + " | ".join(f"{c.median:.2f} ({c.low:.2f} to {c.high:.2f})" for c in cells) + " |")
    disturbed = "Where other work ran meanwhile, compare processor times; the clock's show it in their spread."
    return "\n".join([*lines, "", disturbed, ""])


if __name__ == "__main__":
    main()
