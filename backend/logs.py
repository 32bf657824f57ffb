"""Logging: one line per event on standard error. Bodies, tokens and passwords are never logged."""

from __future__ import annotations

import logging

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
    """Log from `level` on; libraries that log each request or each step only from WARNING on."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
