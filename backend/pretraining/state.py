"""A pre-training seen from outside: what is asked of it, how far it has come on the disk, how it is stopped, and that
there is only one at a time. No torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from taxonomist.storage.files import storage_errors
from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError

PATIENCE_S = 10.0  # for a predecessor that is just ending
T = TypeVar("T", bound=BaseModel)

ShouldStop = Callable[[], bool]


class StoppedError(TaxonomistError):
    """Somebody asked for an end; what was done so far is kept."""

    def __init__(self, message: str = "The pre-training was stopped. The next one goes on from here.") -> None:
        super().__init__(message)


class Stop:
    """Whether to end: told so by a signal, or since the process that started this one is gone.

    While the block runs a signal only notes that; a second one ends the process at once.
    """

    def __init__(self, parent: int | None = None) -> None:
        self._parent = parent
        self._told = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._told or self.orphaned

    @property
    def orphaned(self) -> bool:
        """Whether the parent is gone."""
        return self._parent is not None and os.getppid() != self._parent

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._told = True
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Asked:
    """What somebody wants of a pre-training; None leaves it to the settings, or to the run that goes on.

    `resume`: True goes on with an unfinished run, False begins anew, None goes on where there is one. `pictures` is a
    folder that `data fetch` has filled: all of its pictures take part, and none is prepared. `out` is a folder for a
    report of the run.
    """

    preset: str | None = None
    epochs: int | None = None
    weights: str | None = None
    resume: bool | None = None
    device: str | None = None
    devices: int | str = 1
    nodes: int = 1
    adopt: bool = True
    pictures: Path | None = None
    out: Path | None = None


class Run(BaseModel, frozen=True):
    """One pre-training. `size` is that of the pictures in pixels, `recipe` the fields of a `Recipe`.

    `weights` are the start weights that were asked for, those of the recipe are what became of it.
    `documents` counts the catalogue when its pictures were prepared, `seen` when those were of the last backbone that
    was published. `pictures` is the folder of the pictures where that is not the home folder's own.
    """

    preset: str
    recipe: dict[str, Any]
    size: int
    weights: str = "random"
    step: Literal["prepare", "pretrain", "adopt", "done", "failed"] = "prepare"
    documents: int = 0
    seen: int = 0
    version: str | None = None
    outcome: str = ""
    pictures: Path | None = None

    @property
    def unfinished(self) -> bool:
        """Whether there is something to go on with."""
        return self.step not in {"done", "failed"}


def folder_of(home: Path) -> Path:
    """Where all state of pre-training is; made when it is missing."""
    folder = home / "pretraining"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_run(home: Path) -> Run | None:
    """The last pre-training, None before the first. Raises `DamagedError`."""
    return read_state(folder_of(home) / "run.json", Run)


def write_run(home: Path, run: Run) -> Run:
    """Keep it; returns it."""
    write_state(folder_of(home) / "run.json", run)
    return run


def read_state(path: Path, kind: type[T]) -> T | None:
    """Return what the file holds, None when there is none. Raises `DamagedError`."""
    return read_model(path, kind, hint="Delete it; the step begins again.")


def write_state(path: Path, state: BaseModel) -> None:
    """Replace the file in one step. Raises `StorageError`."""
    write_model(path, state)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Nobody else pre-trains on this home folder until the block ends. Raises `ConfigError` when somebody does."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        raise ConfigError(
            "A pre-training is running already.", hint="Wait for its end: two would only slow each other down."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_running(home: Path) -> bool:
    """Whether some process pre-trains now."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _lock(home: Path) -> FileLock:
    return FileLock(folder_of(home) / "lock")
