"""The curves of a pre-training as events for TensorBoard."""

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

log = logging.getLogger(__name__)


class TensorBoardEvents:
    """Writes scalars to a new file in the folder. Those that find no room are left out; `curves.csv` has them, too.

    tensorboardX's own writer has a thread, which a full disk ends; the training would then wait for it without end.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._size = 0

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the scalars of a step."""
        events = [Event(summary=scalar(name, value), step=step) for name, value in scalars.items()]
        if self._size == 0:
            events.insert(0, Event(file_version="brain.Event:2"))
        data = b"".join(map(_record, events))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(data)
            self._size += len(data)
        except OSError as error:
            log.warning("TensorBoard's events of step %d could not be written: %s", step, error.strerror)
            with suppress(OSError):  # what follows half an event could not be read
                os.truncate(self._file, self._size)


def _record(event: Event) -> bytes:
    """Return the event as a TFRecord: its length, itself, and the checksums of both."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return bytes(length + checksums[0] + data + checksums[1])
