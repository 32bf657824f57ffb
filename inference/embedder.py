"""Embeddings of images with onnxruntime, for serving and for training. No torch."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.errors import DamagedError, ImageDecodingError

BACKBONE_FILE = "backbone.onnx"
_RUN = 16  # images in one run: more is not faster on a CPU (measured), and onnxruntime keeps memory for a whole run
_NICENESS = 5  # a third of the time of another thread that wants the same core


def give_way() -> None:
    """Lower the priority of this thread and of those that it starts, on Linux; elsewhere threads have none.

    Many images keep all cores busy for seconds, while Label Studio waits one second for the answer to a webhook. Only
    root could raise the priority again.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class Embedder:
    """A backbone exported by `taxonomist.training.backbones.export`. Safe to use from several threads at once.

    `size` (pixels) and `dimension` are read from the model. `threads` is the number of cores for one call; with None
    all that the process may use. Raises `DamagedError` when the file cannot be loaded or is not such a backbone.
    """

    def __init__(self, onnx_path: Path, size: int | None = None, threads: int | None = None) -> None:
        # Otherwise onnxruntime sends what it runs to its maker, from the moment it is imported, and keeps a device id.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415 - a process that embeds nothing, such as a command, starts without it

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        threads = threads or _allowed_cores()
        if threads is not None:
            options.intra_op_num_threads = threads
        # A web worker that spins between requests would take the core from other processes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            with ThreadPoolExecutor(1, initializer=give_way) as starter:  # onnxruntime's threads get its priority
                self._session = starter.submit(
                    onnxruntime.InferenceSession, str(onnx_path), options, providers=["CPUExecutionProvider"]
                ).result()
            (source,), (target,) = self._session.get_inputs(), self._session.get_outputs()
            self._input: str = source.name
            self.size = int(source.shape[1])
            self.dimension = int(target.shape[1])
        except Exception as error:  # onnxruntime's exceptions have no public base class
            raise DamagedError(f"{onnx_path} is not a backbone that onnxruntime can load: {error}") from error
        if size is not None and size != self.size:
            raise DamagedError(f"{onnx_path} takes images of {self.size} pixels, not of {size}.")

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the embeddings (n, dimension) of prepared images, uint8 (n, size, size, 3).

        Raises `ImageDecodingError` when the images have another shape or type.
        """
        if images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3) or images.dtype != np.uint8:
            raise ImageDecodingError(
                f"The images are {images.dtype} {images.shape}, "
                f"the backbone takes uint8 (n, {self.size}, {self.size}, 3)."
            )
        embeddings = np.empty((len(images), self.dimension), np.float32)
        for start in range(0, len(images), _RUN):
            stop = start + _RUN
            (embeddings[start:stop],) = self._session.run(None, {self._input: images[start:stop]})
        return embeddings


def _allowed_cores() -> int | None:
    """Return on how many cores this process may run, two threads of one core counted once; None outside Linux.

    Without a number onnxruntime binds a thread to each core but the first, even in a process that may use only some.
    Where the thread that calls happens to run on such a core, the two wait for each other: 25 ms for an image of 160
    pixels on two cores instead of 17.
    """
    if sys.platform != "linux":
        return None
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(siblings.format(cpu)).read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)
