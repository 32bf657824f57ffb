"""A disk that gets full: a small file system in memory, where the system allows to mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def small_disk(folder: Path, megabytes: int = 160) -> Iterator[bool]:
    """Mount a small file system at the new folder while the block runs; yield whether that was possible."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path, left_kilobytes: int = 0) -> Iterator[None]:
    """Fill the disk while the block runs, but for some kilobytes."""
    filler = folder / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        os.truncate(filler, filler.stat().st_size - 1024 * left_kilobytes)
        yield
    finally:
        filler.unlink(missing_ok=True)
