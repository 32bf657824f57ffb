"""The columns of a manifest, found by the letters and digits of the names in its header, in any case."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import process
from rapidfuzz.distance import OSA

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import clean_name

_LEVEL = re.compile(r"level0*([0-9]{1,6})")
_NAMES = ("file", "product", "annotator")


@dataclass(frozen=True)
class Columns:
    """The positions of the columns in a row.

    `unknown` are the names of the columns that are not used, as they are written, some with the name that was probably
    meant. `unnamed` are the positions of columns without a name, which must be blank.
    """

    file: int
    levels: tuple[int, ...]
    product: int | None
    annotator: int | None
    unknown: tuple[str, ...]
    unnamed: tuple[int, ...]


def is_column(name: str) -> bool:
    """Return whether a column of that name has a meaning in a manifest."""
    key = _key(name)
    return key in _NAMES or _LEVEL.fullmatch(key) is not None


def find_columns(manifest: Path, header: Sequence[str]) -> Columns:
    """Return the columns of a header. Raises `ConfigError` when one is missing, or two have the same meaning."""
    keys = [_key(name) for name in header]
    positions: dict[str, int] = {}
    for position, key in enumerate(keys):
        if not is_column(key):
            continue
        meaning = f"level{int(level[1])}" if (level := _LEVEL.fullmatch(key)) else key
        if meaning in positions:
            raise ConfigError(
                f"{manifest} has two columns for {meaning!r}: {header[positions[meaning]]!r} and {header[position]!r}.",
                hint="Remove or rename one of them.",
            )
        positions[meaning] = position
    if "file" not in positions:
        names = ", ".join(map(repr, header))
        raise ConfigError(f"{manifest} has no column 'file'. Its columns are: {names}.", hint=_similar("file", header))
    depth = sum(1 for meaning in positions if meaning.startswith("level"))
    levels = [f"level{level}" for level in range(1, depth + 1)]
    if missing := next((level for level in levels if level not in positions), None):
        seen = ", ".join(repr(header[at]) for name, at in positions.items() if name.startswith("level"))
        raise ConfigError(
            f"{manifest} has no column {missing!r}, but {seen}.", hint="Levels count from 1, without a gap."
        )
    unknown = [(header[at], key) for at, key in enumerate(keys) if clean_name(header[at]) and not is_column(key)]
    known = (*_NAMES, *levels, f"level{depth + 1}")
    return Columns(
        file=positions["file"],
        levels=tuple(positions[level] for level in levels),
        product=positions.get("product"),
        annotator=positions.get("annotator"),
        unknown=tuple(_with_meant(name.strip(), key, known) for name, key in unknown),
        unnamed=tuple(at for at, name in enumerate(header) if not clean_name(name)),
    )


def _key(name: str) -> str:
    """Return the letters and digits of a name: `Level 1`, `level_1`, `level.1`, and `level１` are one name."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _with_meant(name: str, key: str, known: Sequence[str]) -> str:
    near = process.extractOne(key, known, scorer=OSA.distance, score_cutoff=max(1, len(key) // 4))
    return f"{name} (is {near[0]!r} meant?)" if near else name


def _similar(wanted: str, header: Sequence[str]) -> str | None:
    near = process.extractOne(wanted, list(map(_key, header)), scorer=OSA.distance, score_cutoff=2)
    return f"Is {near[0]!r} meant?" if near else "The first line of the file must name its columns."
