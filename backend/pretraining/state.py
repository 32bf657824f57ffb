"""A pre-training seen from outside: the request, the state on the disk, the stop signal, and the lock. No torch."""

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
from pydantic import AliasChoices, BaseModel, Field

from taxonomist.backend.settings import Settings
from taxonomist.storage.files import storage_errors
from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError
from taxonomist.training.pretraining.recipe import PRESETS, Precision

EXIT_NO_ROOM = 75  # of a job's process: the worker starts it again later
LOCK_TIMEOUT_S = 10.0  # a pre-training that is just ending still has the lock
T = TypeVar("T", bound=BaseModel)

ShouldStop = Callable[[], bool]


class StoppedError(TaxonomistError):
    """The pre-training was stopped on request; what was done so far is kept."""

    def __init__(self, message: str = "The pre-training was stopped. The next one resumes here.") -> None:
        super().__init__(message)


class StopSignal:
    """Says whether to stop: after SIGTERM or SIGINT, or when the process that started this one is gone.

    Inside the `with` block the first signal is only recorded; a second one ends the process at once.
    """

    def __init__(self, parent: int | None = None) -> None:
        self._parent = parent
        self._received = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._received or self.orphaned

    @property
    def orphaned(self) -> bool:
        """Whether the parent process is gone."""
        return self._parent is not None and os.getppid() != self._parent

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class PretrainRequest:
    """The options of a pre-training. None means: as the settings say, or as the run that is resumed has it.

    `resume`: True resumes an unfinished run, False starts a new one, None resumes if there is one. `prepared` is a
    folder that `data fetch` wrote: all of its images take part, and no others are prepared. `out` is a folder for a
    report of the run. `job` is the id of the worker's job.
    """

    preset: str | None = None
    epochs: int | None = None
    weights: str | None = None
    resume: bool | None = None
    device: str | None = None
    precision: Precision | None = None
    devices: int | str = 1
    nodes: int = 1
    adopt: bool = True
    prepared: Path | None = None
    out: Path | None = None
    job: str = ""


class Run(BaseModel, frozen=True):
    """One pre-training. `size` is the side of the images in pixels, `recipe` has the fields of a `Recipe`.

    `weights` are the requested start weights; the recipe has those that they were resolved to. `documents` is the size
    of the catalogue when the images were prepared, `seen` its size when those of the last published backbone were.
    `prepared` is the folder of the prepared images if it is not that of the home folder; its former name is `pictures`.
    `precision` is the number format of the training, once it has ended. `early_stop` says so where it stopped
    early. `job` is the worker's job that ended it.
    """

    preset: str
    recipe: dict[str, Any]
    size: int
    weights: str = "random"
    step: Literal["prepare", "pretrain", "adopt", "done", "failed"] = "prepare"
    documents: int = 0
    seen: int = 0
    version: str | None = None
    precision: str = ""
    early_stop: str = ""
    outcome: str = ""
    job: str = ""
    prepared: Path | None = Field(None, validation_alias=AliasChoices("prepared", "pictures"))

    @property
    def unfinished(self) -> bool:
        """Whether the run can be resumed."""
        return self.step not in {"done", "failed"}


def differences(settings: Settings, run: Run) -> Iterator[str]:
    """Yield, for each setting that was changed since the run began, what the run has and what the setting says.

    The number format is reported by the training itself, which chooses it.
    """
    given = settings.model_fields_set
    if "pretrain_preset" in given and settings.pretrain_preset != run.preset:
        yield _difference("the preset", run.preset, settings.pretrain_preset, "TAXONOMIST_PRETRAIN_PRESET")
    default = PRESETS[run.preset].served if run.preset in PRESETS else run.size
    if (size := settings.image_size or default) != run.size:
        yield _difference("images of a side in pixels of", run.size, size, "TAXONOMIST_IMAGE_SIZE")
    if "backbone" in given and settings.backbone != run.recipe["architecture"]:
        yield _difference("the architecture", run.recipe["architecture"], settings.backbone, "TAXONOMIST_BACKBONE")
    if settings.pretrain_weights is not None and settings.pretrain_weights != run.weights:
        yield _difference("the start weights", run.weights, settings.pretrain_weights, "TAXONOMIST_PRETRAIN_WEIGHTS")


def _difference(what: str, runs: object, todays: object, variable: str) -> str:
    return f"{what} {runs}, not {todays} as {variable} says now"


def pretraining_folder(home: Path) -> Path:
    """Return the folder with all state of pre-training; it is created if missing."""
    folder = home / "pretraining"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_run(home: Path) -> Run | None:
    """Return the last pre-training, None before the first one. Raises `DamagedError`."""
    return read_state(pretraining_folder(home) / "run.json", Run)


def write_run(home: Path, run: Run) -> Run:
    """Store the run and return it."""
    write_state(pretraining_folder(home) / "run.json", run)
    return run


def read_state(path: Path, kind: type[T]) -> T | None:
    """Return what the file holds, None when there is none. Raises `DamagedError`."""
    return read_model(path, kind, hint="Delete it; the step starts again.")


def write_state(path: Path, state: BaseModel) -> None:
    """Replace the file in one step. Raises `StorageError`."""
    write_model(path, state)


def wait_for_adoption(home: Path, version: str) -> None:
    """Store that a version of the backbone waits for its adoption by the worker. Raises `StorageError`."""
    folder = _waiting_folder(home)
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
        (folder / version).touch()


def versions_waiting(home: Path) -> list[str]:
    """Return the versions of the backbone that wait for their adoption, in the order in which they were added."""
    folder = _waiting_folder(home)
    with storage_errors(folder):
        found = list(folder.iterdir()) if folder.is_dir() else []
        return [path.name for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))]


def adoption_ended(home: Path, version: str) -> None:
    """Store that a version of the backbone does not wait any more."""
    folder = _waiting_folder(home)
    with storage_errors(folder):
        (folder / version).unlink(missing_ok=True)


def _waiting_folder(home: Path) -> Path:
    return pretraining_folder(home) / "waiting"


@contextmanager
def exclusive_pretraining(home: Path) -> Iterator[None]:
    """Hold the lock for pre-training on this home folder. Raises `ConfigError` when another process holds it."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout:
        raise ConfigError(
            "A pre-training is running already.", hint="Wait until it ends: two would slow each other down."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_running(home: Path) -> bool:
    """Return whether a process is pre-training on this home folder now."""
    lock = _lock(home)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _lock(home: Path) -> FileLock:
    return FileLock(pretraining_folder(home) / "lock")
