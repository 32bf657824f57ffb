"""Debian packages that the tests need, installed where we may: as root, in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable


def is_root() -> bool:
    """Return whether system packages may be installed."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install(packages: list[str], progress: Callable[[str], None]) -> None:
    """Install packages when we are root on a machine with apt-get; the caller checks whether that worked."""
    if not is_root() or not shutil.which("apt-get"):
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
        progress(" ".join(command))
        subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
