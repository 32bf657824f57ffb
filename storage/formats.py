"""Version numbers of the files and databases that we write.

Each format has a whole number, from 1 up. A file without a number has version 1: releases before the first number wrote
those.
"""

from typing import Any

from taxonomist.taxonomy.errors import DamagedError

__all__ = ["FORMAT", "check_format", "format_of"]

FORMAT = "format"
"""The key of the number in a JSON object."""


def format_of(content: Any) -> object:
    """Return the version that a parsed JSON file names; 1 when it names none."""
    return content.get(FORMAT, 1) if isinstance(content, dict) else 1


def check_format(path: object, version: object, newest: int) -> None:
    """Raise `DamagedError` when `version`, which the file or database at `path` names, is not one of 1 to `newest`."""
    if isinstance(version, int) and 1 <= version <= newest:
        return
    raise DamagedError(
        f"{path} has format {version!r}; this release reads formats up to {newest}.",
        hint="Install the release of label-studio-taxonomist that wrote it, or a newer one.",
    )
