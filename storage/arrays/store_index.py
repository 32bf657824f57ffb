"""The index file of an append-only store: one line for the header and one per batch of rows, each with a checksum."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxonomist.storage.formats import check_format, format_of
from taxonomist.taxonomy.errors import StorageError

__all__ = [
    "FORGETTING",
    "FORGOTTEN",
    "ArrayLayout",
    "Batch",
    "DamagedArraysError",
    "StoreIndex",
    "packed_index",
    "renamed_index",
    "unpacked_index",
]

_FORMAT = 1
FORGOTTEN = ""
"""The id of rows that were forgotten: they are zeros."""
FORGETTING = "?"
"""The id of rows that are being forgotten: they may be zeros or not. Checksums count both as zeros."""


@dataclass(frozen=True)
class ArrayLayout:
    """The shape and type of the rows of a store, and its names for them."""

    what: str
    """The name of the rows in messages, in the plural."""
    checksum_key: str
    """The key in the index that holds the checksum of a batch."""
    file: str
    """The name of the file with the rows."""
    shape: tuple[int, ...]
    """The shape of one row."""
    dtype: str
    header: dict[str, int]
    """Properties of the rows that a reader must share, such as their length."""
    hint: str
    """What to do when the folder holds a store with another header."""
    check_all: bool = True
    """Whether opening checks the checksums of all rows, or only of the last batch."""


class DamagedArraysError(Exception):
    """The files do not match their checksums or each other. The store handles it; callers never see it."""


@dataclass(frozen=True)
class Batch:
    """The ids of consecutive rows, and the CRC-32 of their bytes."""

    ids: tuple[str, ...]
    checksum: int

    def check(self, rows: NDArray[Any]) -> None:
        """Raise `DamagedArraysError` when the rows (a contiguous array) are not those that were written."""
        gone = [row for row, id in enumerate(self.ids) if id in (FORGOTTEN, FORGETTING)]
        if gone:
            rows = np.array(rows)
            rows[gone] = 0
        if zlib.crc32(rows.data) != self.checksum:
            raise DamagedArraysError("the checksum of a batch of rows is wrong")


class StoreIndex:
    """Reads the index as it grows, and writes its lines."""

    def __init__(self, layout: ArrayLayout) -> None:
        self._layout = layout
        self._header = {"format": _FORMAT, **layout.header}
        self.end = 0
        """The number of bytes of complete lines read so far."""

    def read_on(self, data: bytes) -> list[Batch]:
        """Return the batches in `data`, the bytes from `end` on. An incomplete last line is left for the next call.

        Raises `DamagedArraysError`, and `StorageError` when an intact header describes other rows.
        """
        complete = data[: data.rfind(b"\n") + 1]
        batches = []
        for line in complete.splitlines(keepends=True):
            content = _unpack(line)
            if self.end == 0:
                self._check_header(content)
            else:
                batches.append(Batch(tuple(content["ids"]), content[self._layout.checksum_key]))
            self.end += len(line)
        return batches

    def line(self, ids: Sequence[str], rows: NDArray[Any]) -> bytes:
        """Return the bytes to write at `end` for a batch of contiguous rows, after the header for the first batch."""
        header = _pack(self._header) if self.end == 0 else b""
        return header + _pack({"ids": list(ids), self._layout.checksum_key: zlib.crc32(rows.data)})

    def _check_header(self, content: dict[str, Any]) -> None:
        check_format(f"The index of the {self._layout.what}", format_of(content), _FORMAT)
        if content.keys() != self._header.keys():
            raise DamagedArraysError(f"the header is {content}")
        if content != self._header:
            raise StorageError(
                f"The {self._layout.what} in the folder have {content}, not {self._header}.", hint=self._layout.hint
            )


def renamed_index(data: bytes, names: Mapping[str, str]) -> tuple[bytes, int]:
    """Return the bytes of an index with other ids, and how many were renamed; a line that is not complete is left out.

    Raises `DamagedArraysError`.
    """
    header, *batches = unpacked_index(data) or [{}]
    taken = {id for batch in batches for id in batch["ids"]} - names.keys()
    renamed = 0
    for batch in batches:
        for position, id in enumerate(batch["ids"]):
            if (new := names.get(id)) is not None:
                batch["ids"][position] = f"{new}~" if new in taken else new
                taken.add(new)
                renamed += 1
    return packed_index([header, *batches]), renamed


def unpacked_index(data: bytes) -> list[dict[str, Any]]:
    """Return the lines of an index, the header first; a line that is not complete is left out.

    Raises `DamagedArraysError`.
    """
    return [_unpack(line) for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True)]


def packed_index(lines: Sequence[dict[str, Any]]) -> bytes:
    """Return the bytes of an index with these lines."""
    return b"".join(map(_pack, lines))


def _pack(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _unpack(line: bytes) -> dict[str, Any]:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise DamagedArraysError("the checksum of a line of the index is wrong")
    content: dict[str, Any] = json.loads(text)
    return content
