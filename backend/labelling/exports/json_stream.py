"""JSON files of any size, read as streams. Whatever is wrong with a file is an error that names the file and the place.

ijson's parser in C reads them. A number of more digits than Python converts leaves it in a state that may end the
process, so such a number is found in the bytes before the parser gets it.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import ijson

from taxonomist.backend.labelling.exports.forms import AS_JSON
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import shorten

MOST_DIGITS = 600  # in a row; Python can be set to convert no more than 640
_BLOCK = 1024 * 1024
_Parse = Callable[[BinaryIO], Iterator[Any]]
_IS_DIGIT = bytes(ord("0") if chr(byte).isascii() and chr(byte).isdigit() else 0 for byte in range(256))
_MANY_DIGITS = b"0" * (MOST_DIGITS + 1)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MOST_DIGITS + 1))
_QUOTE_OR_ESCAPE = re.compile(rb'"|\\.', re.DOTALL)


class _Bytes(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _LongNumberError(ValueError):
    def __init__(self, position: int) -> None:
        super().__init__(f"a number of more than {MOST_DIGITS} digits")
        self.position = position


def read_events(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the kinds and values of the parts of a file, as `ijson.basic_parse` does. Raises as `read_items`."""
    return _read(file, ijson.basic_parse)


def read_items(file: Path, prefix: str) -> Iterator[Any]:
    """Yield the values in a file in UTF-8 or UTF-16 that stand at ijson's `prefix`.

    Raises `ConfigError` with the place of what is wrong, in bytes of the text in UTF-8 from 1.
    """
    return _read(file, partial(ijson.items, prefix=prefix))


def _read(file: Path, parse: _Parse) -> Iterator[Any]:
    try:
        with _utf8(file) as content:
            yield from parse(cast(BinaryIO, _WithoutLongNumbers(content, file)))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {file}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from None
    except _LongNumberError as error:
        raise ConfigError(f"{file} has {error} at byte {error.position + 1:,}.", hint=AS_JSON) from None
    except (ijson.JSONError, ValueError, ArithmeticError) as error:
        position = _position(file, parse)
        if position is None and "trailing" not in str(error):
            raise ConfigError(f"{file} ends in the middle.", hint="Export it again, and copy the whole file.") from None
        place = f"byte {position:,}" if position is not None else "its end"
        raise ConfigError(f"{file} is not JSON at {place}: {_reason(error)}.", hint=AS_JSON) from None


def _reason(error: Exception) -> str:
    if isinstance(error, ArithmeticError):
        return "the exponent of a number is too large"
    if isinstance(error, UnicodeDecodeError):
        return f"the text is not {error.encoding.upper()}"
    # ijson gives the reason in the first line, and the text around it in the others; some errors hold bytes.
    reason = str(error).removeprefix("b'").partition("\n")[0].partition("\\n")[0]
    return shorten(reason.strip().rstrip("."))


@contextmanager
def _utf8(file: Path) -> Iterator[_Bytes]:
    """Open a file, and yield its text in UTF-8. Raises `ConfigError` for an archive."""
    with file.open("rb") as content:
        start = content.read(4)
        if start.startswith(b"PK"):
            raise ConfigError(f"{file} is a zip archive.", hint=f"Unpack it. {AS_JSON}")
        content.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        yield _AsUtf8(content) if wide else content


class _AsUtf8:
    """A file in UTF-16, as PowerShell writes it, read as UTF-8. Only at its end a read gives nothing."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self._decoder = codecs.getincrementaldecoder("utf-16")()
        self._text = io.BytesIO()

    def read(self, size: int = -1, /) -> bytes:
        while not (text := self._text.read(size)):
            if not (block := self._content.read(_BLOCK)):
                break
            self._text = io.BytesIO(self._decoder.decode(block).encode())
        return text


class _WithoutLongNumbers:
    """The text of a file. Reading raises `_LongNumberError` where a number of too many digits begins.

    Digits in a row may stand in a text, too. Where they are seen for the first time, the file is read to find out.
    """

    def __init__(self, content: _Bytes, file: Path) -> None:
        self._content, self._file = content, file
        self._end = b""
        self._checks = True

    def read(self, size: int = -1, /) -> bytes:
        block = self._content.read(size)
        if size and b'"' not in block:  # the parser begins a long text anew with each block, so this one is large
            block += self._content.read(_BLOCK)
        if self._checks:
            seen = self._end + block
            self._end = seen[-MOST_DIGITS:]
            if _MANY_DIGITS in seen.translate(_IS_DIGIT):
                with _utf8(self._file) as content:
                    position = _find_long_number(content)
                if position is not None:
                    raise _LongNumberError(position)
                self._checks = False
        return block


def _find_long_number(content: _Bytes) -> int | None:
    """Return the position of the first number of too many digits, None where all digits in a row are in texts."""
    offset, rest, in_text = 0, b"", False
    while block := content.read(_BLOCK):
        seen, start = rest + block, 0
        for mark in _QUOTE_OR_ESCAPE.finditer(seen):
            if not in_text and (number := _LONG_NUMBER.search(seen, start, mark.start())):
                return offset + number.start()
            in_text ^= mark.group() == b'"'
            start = mark.end()
        if not in_text and (number := _LONG_NUMBER.search(seen, start)):
            return offset + number.start()
        kept = seen[start:]
        rest = kept[-1:] if in_text and kept.endswith(b"\\") else b"" if in_text else kept[-MOST_DIGITS:]
        offset += len(seen) - len(rest)
    return None


def _position(file: Path, parse: _Parse) -> int | None:
    """Return how many bytes the parser takes until it fails, None where it fails at the end of the file."""
    whole, step = 0, _BLOCK
    while True:
        with _utf8(file) as content:
            counting = _Counting(content, whole, step)
            _fails(parse, counting)
        if counting.at_end:
            return None
        if step == 1:
            return counting.count
        whole, step = counting.before_last, step // 32


class _Counting:
    """The text of a file, counted: in large blocks up to `whole` bytes, then in those of `step` bytes."""

    def __init__(self, content: _Bytes, whole: int, step: int) -> None:
        self._content, self._whole, self._step = content, whole, step
        self.count = self.before_last = 0
        self.at_end = False

    def read(self, size: int = -1, /) -> bytes:
        most = self._whole - self.count if self.count < self._whole else self._step
        block = self._content.read(min(_BLOCK, most) if size else 0)
        self.before_last, self.count = self.count, self.count + len(block)
        self.at_end = size != 0 and not block  # ijson asks for 0 bytes to see what it reads
        return block


def _fails(parse: _Parse, content: _Bytes) -> None:
    try:
        for _ in parse(cast(BinaryIO, content)):
            pass
    except (ijson.JSONError, ValueError, ArithmeticError):
        return
