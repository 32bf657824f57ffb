"""Label Studio in a virtual environment of its own, so that its requirements do not conflict with ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from taxonomist.taxonomy.errors import LabelStudioError

REQUIREMENT = "label-studio>=1.23,<1.24"
SECONDS_PER_LINE = 5.0

Say = Callable[[str], None]
"""Called with a line about what is being done."""


def silent(_line: str) -> None:
    """A `Say` for callers that show nothing."""


def label_studio(folder: Path, say: Say = silent) -> Path:
    """Return the `label-studio` program of the virtual environment `folder`, which is made when it is missing.

    Raises `LabelStudioError` with pip's last lines when the installation fails.
    """
    make_environment(folder, [[REQUIREMENT]], say, title="Label Studio")
    return folder / "bin" / "label-studio"


def make_environment(folder: Path, installs: Sequence[Sequence[str]], say: Say = silent, *, title: str) -> Path:
    """Return the python of the virtual environment `folder` after installing `installs` into it.

    Each of `installs` has the arguments of one `pip install`. An environment with exactly these is not changed. Others
    get the installation, so an interrupted one resumes. Only one process works on a folder.

    Raises `LabelStudioError` with the last lines of the tool that failed.
    """
    python = folder / "bin" / "python"
    record = folder / "installed.txt"  # written last: without it the installation is not complete
    wanted = "\n".join(" ".join(arguments) for arguments in [[f"python {sys.version_info[:2]}"], *installs])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if python.exists() and record.exists() and record.read_text() == wanted:
            return python
        record.unlink(missing_ok=True)
        say(f"{title}: making the virtual environment {folder}")
        lib = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        clear = ["--clear"] if folder.exists() and not lib.exists() else []  # another python made it
        _watch([sys.executable, "-m", "venv", *clear, str(folder)], title, say)
        for arguments in installs:
            say(f"{title}: pip install {' '.join(arguments)} (some minutes, only the first time)")
            _watch([str(python), "-m", "pip", "install", "--progress-bar", "off", *arguments], title, say)
        record.write_text(wanted)
    return python


def _watch(command: Sequence[str], title: str, say: Say) -> None:
    tail: deque[str] = deque(maxlen=15)
    shown = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - the program is our own python
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_environment()
    ) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            tail.append(line)
            if time.monotonic() - shown > SECONDS_PER_LINE and line.startswith(("Collecting ", "Installing ")):
                shown = time.monotonic()
                say(f"{title}: {line.partition(' (')[0][:80].lower()}")
    if process.returncode:
        output = "\n".join(tail)
        hint = "Correct the cause and run the command again; the installation resumes."
        if "ensurepip" in output:
            hint = "On Debian and Ubuntu: apt-get install python3-venv"
        raise LabelStudioError(f"{title} could not be installed ({' '.join(command)}):\n{output}\n", hint=hint)


def _lines(stream: Iterable[str]) -> Iterable[str]:
    return (line.rstrip() for line in stream if line.strip())


def _environment() -> dict[str, str]:
    # A PYTHONPATH or an activated environment of the caller must not leak into the new one.
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
