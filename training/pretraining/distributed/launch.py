"""Starts the processes of a pre-training over several devices, and follows them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

import taxonomist
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy import errors
from taxonomist.taxonomy.errors import TaxonomistError, TrainingError
from taxonomist.training.pretraining.batches import Rows
from taxonomist.training.pretraining.callback import Interrupted, Sigterm, Status
from taxonomist.training.pretraining.probe import Probe
from taxonomist.training.pretraining.recipe import Recipe

FOLDER = "processes"  # below the run's
_ASKED, _NUMBERS, _PICTURES = "asked.json", "numbers.npz", "pictures.npy"
_STATUS, _OUTCOME, _LOG, _LOCK = "status.json", "outcome.json", "log.txt", "wanted.lock"
_LOOK_EVERY = 0.2  # seconds
_PATIENCE = 10.0  # seconds until processes that are not wanted any more are told to end
_TORCHRUNS_PATIENCE = 40.0  # torchrun gives its processes 30 of them
_LINES = 25  # of the log, in an error


@dataclass(frozen=True)
class Inputs:
    """What `pretrain` is called with."""

    pictures: npt.NDArray[np.uint8]
    recipe: Recipe
    rows: Rows | None
    groups: Rows | None
    probe: Probe | None

    def write(self, folder: Path, kind: str) -> None:
        """Put them where other processes can read them. Pictures that are a file stay where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        place = _place(self.pictures)
        if place is None:
            np.save(folder / _PICTURES, self.pictures, allow_pickle=False)
        numbers: dict[str, Any] = {"rows": self.rows, "groups": self.groups}
        if self.probe is not None:
            numbers |= {f"probe_{name}": getattr(self.probe, name) for name in ("pictures", "labels", "groups")}
        np.savez(folder / _NUMBERS, **{name: values for name, values in numbers.items() if values is not None})
        asked = {"recipe": asdict(self.recipe), "device": kind, "place": place, "shape": self.pictures.shape}
        write_atomically(folder / _ASKED, json.dumps(asked).encode())

    @classmethod
    def read(cls, folder: Path) -> tuple["Inputs", str]:
        """The inputs, and the kind of device."""
        try:
            asked = json.loads((folder / _ASKED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TrainingError(
                f"There is nothing to pre-train in {folder.parent}.", hint="Call pretrain with nodes=2 or more first."
            ) from None
        pictures: npt.NDArray[np.uint8]
        if asked["place"] is None:
            pictures = np.load(folder / _PICTURES, mmap_mode="r", allow_pickle=False)
        else:
            file, offset = asked["place"]
            pictures = np.memmap(file, np.uint8, "r", offset, tuple(asked["shape"]))
        with np.load(folder / _NUMBERS, allow_pickle=False) as file:
            numbers = dict(file)
        probe = None
        if "probe_labels" in numbers:
            probe = Probe(*(numbers[f"probe_{name}"] for name in ("pictures", "labels", "groups")))
        recipe = TypeAdapter(Recipe).validate_python(asked["recipe"])
        return cls(pictures, recipe, numbers.get("rows"), numbers.get("groups"), probe), str(asked["device"])


def launch(
    folder: Path,
    inputs: Inputs,
    kind: str,
    devices: int,
    nodes: int,
    on_status: Callable[[Status], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Train in `devices` processes, and return when they have finished.

    Raises what they raised, and TrainingError with the end of their log when one has died. With several nodes nothing
    is started: Interrupted says how to do that.
    """
    ours = folder / FOLDER
    with storage_errors(ours):
        inputs.write(ours, kind)
        for name in (_STATUS, _OUTCOME):
            (ours / name).unlink(missing_ok=True)
    module = ["-m", "taxonomist.training.pretraining.distributed", str(folder.resolve())]
    if nodes > 1:
        at = f"--nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint FIRST-NODE:29500"
        raise Interrupted(
            f"A pre-training on {nodes} machines waits in {folder}.",
            hint=f"Run on each of them: torchrun {at} {' '.join(module)}; then this again.",
        )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), *module, "--child"]
    sigterm = Sigterm()
    with _wanted(ours) as stop, (ours / _LOG).open("wb") as log, sigterm.taken():
        # In a session of its own, so that Ctrl-C comes to this process alone.
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, *command], stdout=log, stderr=log, env=_environment(devices), start_new_session=True
        )
        told, stopped = None, False
        try:
            while child.poll() is None:
                if sigterm.received or (should_stop is not None and should_stop()):
                    stopped = True
                    break
                status = read_status(ours)
                if on_status is not None and status is not None and status != told:
                    on_status(status)
                told = status
                time.sleep(_LOOK_EVERY)
        finally:
            stop()
            _end(child)
    outcome = _outcome(ours)
    if outcome is not None:
        raise outcome
    if child.returncode and stopped:  # it had not begun
        raise Interrupted("The pre-training was stopped; it can be resumed.")
    if child.returncode:
        end = (ours / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        raise TrainingError(
            f"A process of the pre-training has died. The end of {ours / _LOG}:\n" + "\n".join(end) + "\n",
            hint="The last checkpoint is there; the next call goes on.",
        )
    shutil.rmtree(ours, ignore_errors=True)


def read_status(folder: Path) -> Status | None:
    """What the first process has told last."""
    try:
        return Status(**json.loads((folder / _STATUS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def tell_status(folder: Path, status: Status) -> None:
    """For whoever started the processes."""
    write_atomically(folder / _STATUS, json.dumps(asdict(status)).encode(), sync=False)


def tell_outcome(folder: Path, error: TaxonomistError) -> None:
    """Why the training did not finish."""
    outcome = {"error": type(error).__name__, "message": error.args[0], "hint": error.hint}
    with suppress(OSError):  # the disk may be full; then the log has to do
        write_atomically(folder / _OUTCOME, json.dumps(outcome).encode())


def is_wanted(folder: Path) -> bool:
    """Whether the process that started the training is still there and wants it to go on."""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def _wanted(folder: Path) -> Iterator[Callable[[], None]]:
    """As long as this process holds a lock the others go on; should it be killed, the system releases it."""
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(f"Another process pre-trains in {folder.parent}.", hint="Wait for its end.") from None
    try:
        yield lock.release
    finally:
        lock.release()


def _end(child: subprocess.Popen[bytes]) -> None:
    for sign, patience in ((None, _PATIENCE), (signal.SIGTERM, _TORCHRUNS_PATIENCE), (signal.SIGKILL, _PATIENCE)):
        if sign is not None:
            child.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return


def _outcome(folder: Path) -> TaxonomistError | None:
    try:
        told = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kind = Interrupted if told["error"] == "Interrupted" else getattr(errors, told["error"], TrainingError)
    error: TaxonomistError = kind(told["message"], hint=told["hint"])
    return error


def _place(pictures: npt.NDArray[np.uint8]) -> tuple[str, int] | None:
    """File and offset of an array that is a part of one, mapped."""
    whole: Any = pictures
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    if not isinstance(whole, np.memmap) or whole.filename is None or not pictures.flags.c_contiguous:
        return None
    return str(Path(whole.filename).resolve()), whole.offset + pictures.ctypes.data - whole.ctypes.data


def _environment(devices: int) -> dict[str, str]:
    """That of this process, with its code, and with the cores shared out."""
    path = [str(Path(taxonomist.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(max(1, len(os.sched_getaffinity(0)) // devices))
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": os.pathsep.join(path)}
