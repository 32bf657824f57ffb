"""Logging: one line per event on standard error. Bodies, tokens and passwords are never logged."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from taxonomist.taxonomy.redaction import redacted

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
_CONTROL = {
    code: chr(code).encode("unicode_escape").decode() for code in (*range(32), *range(127, 160), 0x2028, 0x2029)
}


def set_up_logging(level: str) -> None:
    """Log from `level` on; libraries that log each request or each step only from WARNING on.

    Records of all libraries lose queries and passwords of addresses, and a line cannot begin within a message.
    """
    logging.setLogRecordFactory(_record)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _record(*arguments: Any, **named: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **named)
    try:
        message = record.getMessage()
    except Exception:  # a library's mistake, of which logging makes a traceback with the arguments
        message = f"{record.msg!r} was logged with arguments that do not fit"
    record.msg, record.args = redacted(message).translate(_CONTROL), None
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")
    return record
