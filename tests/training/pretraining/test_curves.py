"""TensorBoard's events, read back as TensorBoard reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from taxonomist.training.pretraining.curves import TensorBoardEvents
from tests.soak.small_disk import filled, small_disk


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Return step, name and value of each event in the folder."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while len(data) >= 12:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
            assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc32c(data[12 : 12 + length]),)
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return sorted(found)


def test_scalars_come_back_and_those_without_room_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "events", megabytes=1) as mounted:
        if not mounted:
            pytest.skip("only root can mount a file system, and not in every container")
        events = TensorBoardEvents(tmp_path / "events")
        events.add({"loss": 0.5, "lr": 0.25}, 1)
        with filled(tmp_path / "events"):
            for step in range(2, 202):
                events.add({"loss": 0.75}, step)
        events.add({"loss": 1.5}, 202)
        found = scalars(tmp_path / "events")
    left_out = len([line for line in caplog.messages if line.endswith("could not be written: No space left on device")])
    assert 0 < left_out < 200  # the last block of the file had some room
    assert found[:2] == [(1, "loss", 0.5), (1, "lr", 0.25)]
    assert found[2:-1] == [(step, "loss", 0.75) for step in range(2, 202 - left_out)]
    assert found[-1] == (202, "loss", 1.5)
