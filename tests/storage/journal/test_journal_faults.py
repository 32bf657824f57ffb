"""The journal when processes are killed, forked, many, or out of disk."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taxonomist.storage.journal import Journal
from tests.storage.workers import annotation

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., list[str]]


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, start_worker: Start) -> None:
    path = tmp_path / "journal.sqlite"
    process = start_worker("record_for_ever", path, 16)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(300)]
    process.kill()
    acknowledged += process.stdout.readlines()
    numbers = [int(line) for line in acknowledged if line.endswith("\n")]
    with Journal(path) as journal:
        recorded = journal.pending()
        assert recorded >= len(numbers)
        # All of them come again, as after a reconcile pass: none is new, none is counted twice.
        assert journal.record([annotation(number) for number in numbers]) == 0
        assert journal.fold().events == recorded
        assert {f"a{number}" for number in numbers} <= {record.annotation_id for record in journal.annotations("4")}


def test_a_killed_fold_is_finished_by_the_next(tmp_path: Path, start_worker: Start) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.record([annotation(number) for number in range(6000)])
        process = start_worker("fold", path)
        while journal.pending() == 6000:
            assert process.poll() is None
        process.kill()
        process.wait()
        assert 0 < journal.pending() < 6000
        journal.fold()
        assert sum(1 for _ in journal.annotations("4")) == 6000
        assert len(journal.dirty("4").images) == 6000


def test_processes_write_while_another_folds(tmp_path: Path, start_worker: Start) -> None:
    path = tmp_path / "journal.sqlite"
    processes = [start_worker("record_some", path, first, first + 150) for first in (0, 100, 200)]
    with Journal(path) as journal:
        folded = 0
        while any(process.poll() is None for process in processes):
            folded += journal.fold().events
        folded += journal.fold().events
        new = sum(int(process.communicate()[0]) for process in processes)
        assert folded == new == 350
        assert sum(1 for _ in journal.annotations("4")) == 350


def test_a_forked_process_has_its_own_connections(tmp_path: Path, run_worker: Run) -> None:
    assert run_worker("record_over_a_fork", tmp_path / "journal.sqlite") == ["3"]


def check_after_full_disk(path: Path, lines: list[str]) -> None:
    *acknowledged, refused = lines
    assert len(acknowledged) > 5
    assert refused.startswith("refused: Cannot write to")
    assert "Make room" in refused
    with Journal(path) as journal:
        assert journal.pending() == len(acknowledged)
        assert journal.record([annotation(int(number)) for number in acknowledged]) == 0
        # With room again, new events are recorded.
        assert journal.record([annotation(len(acknowledged))]) == 1
        assert journal.fold().events == len(acknowledged) + 1


def test_a_file_that_may_not_grow_refuses_and_keeps_what_it_has(tmp_path: Path, run_worker: Run) -> None:
    path = tmp_path / "journal.sqlite"
    check_after_full_disk(path, run_worker("record_until_full", path, 300_000))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB that grows to 4 MB on demand; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("mounting a small file system needs root; the limit on file size is tested instead")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no file systems to mount here")
def test_a_full_disk_refuses_and_keeps_what_it_has(small_disk: Path, run_worker: Run) -> None:
    path = small_disk / "journal.sqlite"
    lines = run_worker("record_until_full", path, 0)
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    check_after_full_disk(path, lines)


def test_readers_see_whole_commits_only(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        seen: list[int] = []
        finished = threading.Event()

        def read() -> None:
            while not finished.is_set():
                seen.append(journal.pending())

        reader = threading.Thread(target=read)
        reader.start()
        for start in range(0, 500, 10):
            journal.record([annotation(number) for number in range(start, start + 10)])
        finished.set()
        reader.join()
        assert all(count % 10 == 0 for count in seen)
        assert seen == sorted(seen)
