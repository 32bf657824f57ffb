"""Label Studio in a virtual environment of its own, so that its pins do not meet ours."""

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
SECONDS_A_LINE = 5.0

Progress = Callable[[str], None]
"""Takes one line about what is being done."""


def silent(_line: str) -> None:
    """A `Progress` for callers that show nothing."""


def label_studio(folder: Path, progress: Progress = silent) -> Path:
    """The `label-studio` program of the virtual environment `folder`, which is made where it is missing.

    Raises `LabelStudioError` with pip's last lines when the installation fails.
    """
    make_environment(folder, [[REQUIREMENT]], progress, title="Label Studio")
    return folder / "bin" / "label-studio"


def make_environment(
    folder: Path, installs: Sequence[Sequence[str]], progress: Progress = silent, *, title: str
) -> Path:
    """The python of the virtual environment `folder`, holding what `installs` name.

    Each of `installs` is the arguments of one `pip install`. An environment that holds just these is used as it is; any
    other is installed into, so that a broken installation goes on where it stopped. Only one process works on a folder.

    Raises `LabelStudioError` with the last lines of the tool that failed.
    """
    python = folder / "bin" / "python"
    record = folder / "installed.txt"  # written last: without it the installation did not end well
    wanted = "\n".join(" ".join(arguments) for arguments in [[f"python {sys.version_info[:2]}"], *installs])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if python.exists() and record.exists() and record.read_text() == wanted:
            return python
        record.unlink(missing_ok=True)
        progress(f"{title}: making the virtual environment {folder}")
        lib = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        clear = ["--clear"] if folder.exists() and not lib.exists() else []  # was made by another python
        _watch([sys.executable, "-m", "venv", *clear, str(folder)], title, progress)
        for arguments in installs:
            progress(f"{title}: pip install {' '.join(arguments)} (some minutes, only the first time)")
            _watch([str(python), "-m", "pip", "install", "--progress-bar", "off", *arguments], title, progress)
        record.write_text(wanted)
    return python


def _watch(command: Sequence[str], title: str, progress: Progress) -> None:
    tail: deque[str] = deque(maxlen=15)
    shown = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - the program is our own python
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_environment()
    ) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            tail.append(line)
            if time.monotonic() - shown > SECONDS_A_LINE and line.startswith(("Collecting ", "Installing ")):
                shown = time.monotonic()
                progress(f"{title}: {line.partition(' (')[0][:80].lower()}")
    if process.returncode:
        said = "\n".join(tail)
        hint = "Nothing else was changed; run it again when that is mended, it goes on where it stopped."
        if "ensurepip" in said:
            hint = "On Debian and Ubuntu: apt-get install python3-venv"
        raise LabelStudioError(f"{title} could not be installed ({' '.join(command)}):\n{said}\n", hint=hint)


def _lines(stream: Iterable[str]) -> Iterable[str]:
    return (line.rstrip() for line in stream if line.strip())


def _environment() -> dict[str, str]:
    # A PYTHONPATH or an activated environment of the caller must not leak into the new one.
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
