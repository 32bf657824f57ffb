"""Logging: one line per event on standard error. Bodies, tokens and passwords are never logged."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from taxonomist.taxonomy.redaction import printable, redacted

log = logging.getLogger(__name__)

QUIET = (
    "azure",
    "httpx",
    "httpcore",
    "label_studio_sdk",
    "matplotlib",
    "PIL",
    "filelock",
    "torch",
    "onnxscript",
    "onnx_ir",
)


def set_up_logging(level: str) -> None:
    """Log from `level` on; libraries that log each request or each step only from WARNING on.

    Records of all libraries lose queries and passwords of addresses, and no text from outside can begin a line. What no
    code catches is logged, too.
    """
    logging.setLogRecordFactory(_record)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_uncaught_in_thread


def _record(*arguments: Any, **named: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **named)
    try:
        message = record.getMessage()
    except Exception:  # a library's mistake, of which logging makes a traceback with the arguments
        message = f"{record.msg!r} was logged with arguments that do not fit"
    record.msg, record.args = _printable(message), None
    if isinstance(record.exc_info, tuple) and isinstance(error := record.exc_info[1], BaseException):
        record.exc_text = "\n".join(map(_printable, _traceback(error)))
    return record


def _printable(text: str) -> str:
    return printable(redacted(text))


def _traceback(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback, as Python shows it; a message is one line, whatever is in it."""
    chain = [traceback.TracebackException.from_exception(error)]
    while before := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(before)
    for part in reversed(chain):
        if part is not chain[-1]:
            yield "which led to:"
        yield from _own_lines(part)


def _own_lines(part: traceback.TracebackException) -> Iterator[str]:
    if part.stack:
        yield "Traceback (most recent call last):"
    for frame in part.stack.format():
        yield from frame.rstrip("\n").split("\n")
    if isinstance(text := getattr(part, "text", None), str):  # of a syntax error; Python cuts its beginning
        part.text = _printable(text.rstrip("\n"))
    if isinstance(notes := getattr(part, "__notes__", None), Sequence):
        part.__notes__ = [_printable(str(note)) for note in notes]
    for text in part.format_exception_only():
        yield text.rstrip("\n")
    for member in part.exceptions or ():  # of a group
        yield from (f"    {line}" for line in _own_lines(member))


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("unexpected error", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        log.error("unexpected error in the thread %s", failed.thread and failed.thread.name, exc_info=failed.exc_value)
