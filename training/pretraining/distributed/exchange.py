"""Files by which the processes and the one that started them communicate: status, outcome, and a lock.

`folder` is `inputs.FOLDER` in the run's folder throughout.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from taxonomist.storage.files import write_atomically
from taxonomist.taxonomy import errors
from taxonomist.taxonomy.errors import TaxonomistError, TrainingError
from taxonomist.training.pretraining.interruption import Interrupted
from taxonomist.training.pretraining.loop import Status

_STATUS, _OUTCOME, _LOCK = "status.json", "outcome.json", "wanted.lock"


def write_status(folder: Path, status: Status) -> None:
    """Report where the training stands."""
    write_atomically(folder / _STATUS, json.dumps(asdict(status)).encode(), sync=False)


def read_status(folder: Path) -> Status | None:
    """Return the last status that the first process has reported."""
    try:
        return Status(**json.loads((folder / _STATUS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_error(folder: Path, error: TaxonomistError) -> None:
    """Report why the training did not finish."""
    outcome = {"error": type(error).__name__, "message": error.args[0], "hint": error.hint}
    with suppress(OSError):  # the disk may be full; the error is in the log, too
        write_atomically(folder / _OUTCOME, json.dumps(outcome).encode())


def read_error(folder: Path) -> TaxonomistError | None:
    """Return the error that a process has reported."""
    try:
        outcome = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind = Interrupted if outcome["error"] == "Interrupted" else getattr(errors, outcome["error"], TrainingError)
    error: TaxonomistError = kind(outcome["message"], hint=outcome["hint"])
    return error


def clear(folder: Path) -> None:
    """Remove status and outcome of an earlier training."""
    for name in (_STATUS, _OUTCOME):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def keep_wanted(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock that lets the processes continue; the yielded function releases it early.

    The system releases it when this process is killed. Raises TrainingError when another process holds it.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(
            f"Another process pre-trains in {folder.parent}.", hint="Wait until it has ended."
        ) from None
    try:
        yield lock.release
    finally:
        lock.release()


def is_wanted(folder: Path) -> bool:
    """Return whether the process that started the training is still running and wants it to continue."""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True
