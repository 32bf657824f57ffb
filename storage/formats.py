"""Version numbers of the files and databases that we write.

The version of a format is a whole number from 1 up. A file without a number has version 1, because early releases
wrote no number.
"""

from typing import Any

from taxonomist.taxonomy.errors import DamagedError, NewerFormatError

__all__ = ["FORMAT", "check_format", "format_of"]

FORMAT = "format"
"""The key of the number in a JSON object."""


def format_of(content: Any) -> object:
    """Return the version in a parsed JSON file; 1 without one."""
    return content.get(FORMAT, 1) if isinstance(content, dict) else 1


def check_format(path: object, version: object, newest: int) -> None:
    """Raise `DamagedError` unless `version`, read from the file or database at `path`, is from 1 to `newest`; it is
    a `NewerFormatError` for a greater number."""
    if isinstance(version, int) and 1 <= version <= newest:
        return
    kind = NewerFormatError if isinstance(version, int) and version > newest else DamagedError
    raise kind(
        f"{path} has format {version!r}; this release reads formats up to {newest}.",
        hint="Install the release of label-studio-taxonomist that wrote it, or a newer one.",
    )
