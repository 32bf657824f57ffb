"""Commands in this process, and what is left in a home."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tests.backend.cli.conftest import run

__all__ = ["run"]


def traces(home: Path, texts: Collection[str]) -> list[str]:
    """Return the files of a home that have one of the texts, in their content or in their name."""
    return [
        path.relative_to(home).as_posix()
        for path in sorted(home.rglob("*"))
        if path.is_file()
        and any(text.encode() in path.read_bytes() or text in path.relative_to(home).as_posix() for text in texts)
    ]
