"""Starts the processes of a pre-training over several devices, and waits for them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.distributed.exchange import clear, keep_wanted, read_error, read_status
from taxonomist.training.pretraining.distributed.inputs import FOLDER, PretrainingInputs
from taxonomist.training.pretraining.interruption import Interrupted, SigtermFlag
from taxonomist.training.pretraining.loop import Status

_LOG = "log.txt"
_LOG_LINES = 25  # in an error
_POLL_INTERVAL = 0.2  # seconds
_EXIT_TIMEOUT = 10.0  # seconds until processes that are no longer wanted get SIGTERM
_TORCHRUN_TIMEOUT = 40.0  # seconds until torchrun is killed; it gives its processes 30 of them


def launch(
    folder: Path,
    inputs: PretrainingInputs,
    kind: str,
    devices: int,
    nodes: int,
    on_status: Callable[[Status], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Train in `devices` processes, and return when they have finished.

    Raises what they raised, and TrainingError with the end of their log when one has died. With several nodes nothing
    is started: Interrupted has the command to run on each of them.
    """
    shared = folder / FOLDER
    with storage_errors(shared):
        inputs.write(shared, kind)
        clear(shared)
    module = ["-m", "taxonomist.training.pretraining.distributed", str(folder.resolve())]
    if nodes > 1:
        options = f"--nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint FIRST-NODE:29500"
        raise Interrupted(
            f"A pre-training on {nodes} machines is ready in {folder}.",
            hint=f"Run on each of them: torchrun {options} {' '.join(module)}; then repeat this command.",
        )
    torchrun = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    sigterm = SigtermFlag()
    with keep_wanted(shared) as release, (shared / _LOG).open("wb") as log, sigterm.installed():
        # In a session of its own, so that Ctrl-C reaches this process only.
        child = subprocess.Popen(  # noqa: S603
            [*torchrun, *module, "--child"], stdout=log, stderr=log, env=_environment(devices), start_new_session=True
        )
        try:
            stopped = _wait(child, shared, on_status, lambda: sigterm.received or bool(should_stop and should_stop()))
        finally:
            release()
            _end(child)
    if (error := read_error(shared)) is not None:
        raise error
    if child.returncode and stopped:  # before the training had begun
        raise Interrupted("The pre-training was stopped; it can be resumed.")
    if child.returncode:
        end = (shared / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise TrainingError(
            f"A process of the pre-training has died. The end of {shared / _LOG}:\n" + "\n".join(end) + "\n",
            hint="The last checkpoint is kept; the next call resumes from it.",
        )
    shutil.rmtree(shared, ignore_errors=True)


def _wait(
    child: subprocess.Popen[bytes],
    shared: Path,
    on_status: Callable[[Status], None] | None,
    should_stop: Callable[[], bool],
) -> bool:
    """Report each status until the child ends; return whether `should_stop` ended the wait first."""
    reported = None
    while child.poll() is None:
        if should_stop():
            return True
        status = read_status(shared)
        if on_status is not None and status is not None and status != reported:
            on_status(status)
        reported = status
        time.sleep(_POLL_INTERVAL)
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child; ask it to end, and kill it in the end, when it does not."""
    for number, timeout in (
        (None, _EXIT_TIMEOUT),
        (signal.SIGTERM, _TORCHRUN_TIMEOUT),
        (signal.SIGKILL, _EXIT_TIMEOUT),
    ):
        if number is not None:
            child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout)
            return


def _environment(devices: int) -> dict[str, str]:
    """Return the environment of this process, with its code on the path and the cores divided between the devices.

    The folder in which a process is started is not on the path (PYTHONSAFEPATH), whatever packages it holds.
    """
    path = [str(Path(str(files("taxonomist"))).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(max(1, len(os.sched_getaffinity(0)) // devices))
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
