"""Logs an error that is met many times, such as that of a full disk."""

from __future__ import annotations

import logging
import time

REPEAT_S = 60.0


class RepeatedError:
    """Logs when an error begins, at most once every `REPEAT_S` seconds while it lasts, and when it has ended."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` waits while the error lasts, in the plural."""
        self._log = log
        self._what = what
        self._logged_at = -REPEAT_S
        self._lasts = False

    def met(self, message: str, error: Exception | None = None) -> None:
        """Note that it was met; `error` is logged with its traceback."""
        now = time.monotonic()
        if now - self._logged_at >= REPEAT_S:
            self._logged_at, self._lasts = now, True
            self._log.error("%s wait: %s", self._what, message, exc_info=error)

    def ended(self) -> None:
        """Note that it was not met."""
        if self._lasts:
            self._lasts = False
            self._log.info("%s go on", self._what)
