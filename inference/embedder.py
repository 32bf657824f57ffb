"""Pictures to embeddings by onnxruntime: for serving, and when training fills the store. No torch."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from taxonomist.inference.image_decoding import Picture
from taxonomist.taxonomy.errors import DamagedError, ImageDecodingError

BACKBONE_FILE = "backbone.onnx"
_BATCH = 16  # more gains nothing on CPU (measured), and bounds the memory that onnxruntime keeps


class Embedder:
    """A backbone exported by `taxonomist.training.backbones.backbone.export`. Safe to use from several threads at once.

    `size` (pixels) and `dimension` are read from the model. `threads` is the number of cores for one call; None
    leaves it to onnxruntime. Raises DamagedError when the file cannot be loaded or is not such a backbone.
    """

    def __init__(self, onnx_path: Path, size: int | None = None, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        if threads is None and hasattr(os, "sched_getaffinity"):
            # Left to itself onnxruntime binds a thread to each core, also in a process that was bound to some.
            allowed = len(os.sched_getaffinity(0))
            threads = allowed if allowed < (os.cpu_count() or 1) else None
        if threads is not None:
            options.intra_op_num_threads = threads
        # A web worker that spins on its core between requests takes it from the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
            (source,), (target,) = self._session.get_inputs(), self._session.get_outputs()
            self._input: str = source.name
            self.size = int(source.shape[1])
            self.dimension = int(target.shape[1])
        except Exception as error:  # onnxruntime's exceptions have no public base class
            raise DamagedError(f"{onnx_path} is not a backbone that onnxruntime can load: {error}") from error
        if size is not None and size != self.size:
            raise DamagedError(f"{onnx_path} takes pictures of {self.size} pixels, not of {size}.")

    def embed(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings float32 (n, dimension) of prepared pictures uint8 (n, size, size, 3).

        Raises ImageDecodingError when the pictures have another shape or type.
        """
        if pictures.ndim != 4 or pictures.shape[1:] != (self.size, self.size, 3) or pictures.dtype != np.uint8:
            raise ImageDecodingError(
                f"Pictures are {pictures.dtype} {pictures.shape}, "
                f"the backbone takes uint8 (n, {self.size}, {self.size}, 3)."
            )
        embeddings = np.empty((len(pictures), self.dimension), np.float32)
        for start in range(0, len(pictures), _BATCH):
            stop = start + _BATCH
            (embeddings[start:stop],) = self._session.run(None, {self._input: pictures[start:stop]})
        return embeddings

    def embed_one(self, picture: Picture) -> npt.NDArray[np.float32]:
        """Embedding float32 (dimension,) of one prepared picture."""
        embedding: npt.NDArray[Any] = self.embed(picture[None])[0]
        return embedding
