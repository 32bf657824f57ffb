"""The index of an embedding store: a line for the header and one for each batch, each with its checksum."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxonomy.errors import StorageError

__all__ = ["Batch", "Index", "IndexDamaged"]

_FORMAT = 1


class IndexDamaged(Exception):  # noqa: N818 - not an error that leaves the package
    """The files do not fit their checksums or each other."""


@dataclass(frozen=True)
class Batch:
    """The ids of some rows that follow each other, and the checksum of their bytes."""

    ids: tuple[str, ...]
    checksum: int

    def check(self, rows: NDArray[np.float16]) -> None:
        """Raises `IndexDamaged` when the rows are not those that were written."""
        if _checksum(rows) != self.checksum:
            raise IndexDamaged("the checksum of the vectors is wrong")


class Index:
    """Reads lines as they come and knows where the whole ones end."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self.end = 0
        """Bytes of whole lines read so far."""

    def read_on(self, data: bytes) -> list[Batch]:
        """The batches in `data`, the bytes from `end` on. A last line that is not whole is left for later.

        Raises `IndexDamaged`, and `StorageError` when a sound header is of another dimension.
        """
        whole = data[: data.rfind(b"\n") + 1]
        batches = []
        for line in whole.splitlines(keepends=True):
            content = _unpack(line)
            if self.end == 0:
                self._check_header(content)
            else:
                batches.append(Batch(tuple(content["ids"]), content["vectors"]))
            self.end += len(line)
        return batches

    def line(self, ids: Sequence[str], rows: NDArray[np.float16]) -> bytes:
        """What to write at `end` for a batch, the header before it when it is the first."""
        header = _pack({"format": _FORMAT, "dimension": self._dimension}) if self.end == 0 else b""
        return header + _pack({"ids": list(ids), "vectors": _checksum(rows)})

    def _check_header(self, content: dict[str, Any]) -> None:
        expected = {"format": _FORMAT, "dimension": self._dimension}
        if content.keys() != expected.keys():
            raise IndexDamaged(f"the header is {content}")
        if content != expected:
            raise StorageError(
                f"The embeddings there are {content}, asked for were {expected}.",
                hint="Give each backbone version a folder of its own.",
            )


def _checksum(rows: NDArray[np.float16]) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)


def _pack(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _unpack(line: bytes) -> dict[str, Any]:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise IndexDamaged("a line of the index does not have its checksum")
    content: dict[str, Any] = json.loads(text)
    return content
