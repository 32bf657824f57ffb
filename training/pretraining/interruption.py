"""How a pre-training is stopped on request."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from taxonomist.taxonomy.errors import TrainingError


class Interrupted(TrainingError):  # noqa: N818 - nothing went wrong
    """The run was stopped on request. Its checkpoint is kept, and the next call resumes it."""


class SigtermFlag:
    """Records SIGTERM instead of ending the process. A handler that was installed before is called, too."""

    def __init__(self) -> None:
        self.received = False
        self._former = signal.getsignal(signal.SIGTERM)

    def install(self) -> None:
        """Handle the signal from now on; only the main thread can, in others this does nothing."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signal within the block."""
        self.install()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._former)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if callable(self._former):
            self._former(number, frame)
