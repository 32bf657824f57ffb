"""The index of a row store: a line for the header and one for each batch of rows, each with its checksum."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from taxonomist.storage.formats import check_format, format_of
from taxonomist.taxonomy.errors import StorageError

__all__ = ["ArrayLayout", "Batch", "DamagedArraysError", "StoreIndex"]

_FORMAT = 1


@dataclass(frozen=True)
class ArrayLayout:
    """What the rows of a store are, and how it speaks of them."""

    what: str
    """Also the name under which the index keeps the checksum of a batch."""
    file: str
    shape: tuple[int, ...]
    """Of one row."""
    dtype: str
    header: dict[str, int]
    hint: str
    """What to do when a store of another header is met."""
    check_all: bool = True
    """Whether opening reads every row to check it, or only those of the last batch."""


class DamagedArraysError(Exception):
    """The files do not fit their checksums or each other."""


@dataclass(frozen=True)
class Batch:
    """The ids of some rows that follow each other, and the checksum of their bytes."""

    ids: tuple[str, ...]
    checksum: int

    def check(self, rows: NDArray[Any]) -> None:
        """Raises `DamagedArraysError` when the rows, contiguous, are not those that were written."""
        if zlib.crc32(rows.data) != self.checksum:
            raise DamagedArraysError("the checksum of some rows is wrong")


class StoreIndex:
    """Reads lines as they come and knows where the whole ones end."""

    def __init__(self, layout: ArrayLayout) -> None:
        self._layout = layout
        self._header = {"format": _FORMAT, **layout.header}
        self.end = 0
        """Bytes of whole lines read so far."""

    def read_on(self, data: bytes) -> list[Batch]:
        """The batches in `data`, the bytes from `end` on. A last line that is not whole is left for later.

        Raises `DamagedArraysError`, and `StorageError` when a sound header says that the rows are others.
        """
        whole = data[: data.rfind(b"\n") + 1]
        batches = []
        for line in whole.splitlines(keepends=True):
            content = _unpack(line)
            if self.end == 0:
                self._check_header(content)
            else:
                batches.append(Batch(tuple(content["ids"]), content[self._layout.what]))
            self.end += len(line)
        return batches

    def line(self, ids: Sequence[str], rows: NDArray[Any]) -> bytes:
        """What to write at `end` for a batch, the header before it when it is the first. The rows are contiguous."""
        header = _pack(self._header) if self.end == 0 else b""
        return header + _pack({"ids": list(ids), self._layout.what: zlib.crc32(rows.data)})

    def _check_header(self, content: dict[str, Any]) -> None:
        check_format(f"The index of the {self._layout.what}", format_of(content), _FORMAT)
        if content.keys() != self._header.keys():
            raise DamagedArraysError(f"the header is {content}")
        if content != self._header:
            raise StorageError(
                f"The {self._layout.what} there are {content}, asked for were {self._header}.", hint=self._layout.hint
            )


def _pack(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _unpack(line: bytes) -> dict[str, Any]:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise DamagedArraysError("a line of the index does not have its checksum")
    content: dict[str, Any] = json.loads(text)
    return content
