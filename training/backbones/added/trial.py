"""A first run of a backbone that a person adds, in a process with bounded memory and time. No torch.

`python -m taxonomist.training.backbones.added.trial FILE [CHAMPION]` prints the result as JSON. onnxruntime
cannot say how much memory a graph takes before it runs it, and a faulty graph may end the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from taxonomist.inference.embedder import Embedder
from taxonomist.taxonomy.errors import ConfigError, DamagedError

MAX_MEMORY = 4 * 2**30
MAX_TIME_S = 180.0
MAX_RATIO = 5.0
BATCH = 16  # images: as many as `Embedder` embeds at once
_ROUNDS = 7
_SAME = 0.9  # cosine of an embedding alone and among others: a network in int8 may scale a batch as a whole


@dataclass(frozen=True)
class Trial:
    """What the run has shown: `ms` and `champion_ms` are of one image, the median of `_ROUNDS` in turn."""

    size: int
    dimension: int
    bytes: int
    ms: float
    champion_ms: float | None

    def check_time(self, *, allow_slow: bool) -> None:
        """Raise ConfigError when an image takes more than `MAX_RATIO` times the champion's time."""
        if self.champion_ms is None or allow_slow or self.ms <= MAX_RATIO * self.champion_ms:
            return
        raise ConfigError(
            f"An image takes {self.ms:.1f} ms, {self.ms / self.champion_ms:.1f} times the champion's "
            f"{self.champion_ms:.1f} ms.",
            hint="Use a smaller network or --size, or allow it by --allow-slow.",
        )


def try_backbone(path: Path, champion: Path | None = None) -> Trial:
    """Return what a run of the backbone in another process shows, beside the champion's time.

    Raises ConfigError when it cannot be loaded, needs more than `MAX_MEMORY` bytes or `MAX_TIME_S` seconds, or gives
    embeddings that are not finite or depend on the other images.
    """
    command = [sys.executable, "-P", "-m", __name__, str(path), *([str(champion)] if champion else [])]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=MAX_TIME_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"The backbone did not embed {BATCH} images within {MAX_TIME_S:.0f} s.", hint="Use a smaller network."
        ) from None
    try:
        result = json.loads(ended.stdout.splitlines()[-1])
        if "error" not in result:
            return TypeAdapter(Trial).validate_python(result)
        problem = str(result["error"])
    except (ValueError, IndexError, ValidationError):
        lines = ended.stderr.strip().splitlines()
        problem = f"its process ended with {ended.returncode}{f': {lines[-1]}' if lines else ''}"
    if "bad_alloc" in problem or "alloc" in problem.lower() or "MemoryError" in problem:
        problem = f"it needs more than {MAX_MEMORY // 2**30} GB of memory for {BATCH} images ({problem})"
    raise ConfigError(f"The backbone cannot be run: {problem}", hint="Use another file, or a smaller network.")


def _run(path: Path, champion: Path | None) -> Trial:
    """Return the result of a run in this process."""
    embedder = Embedder(path)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, embedder.size, embedder.size, 3), np.uint8)
    together = embedder.embed(images)
    if not np.isfinite(together).all():
        raise ConfigError("its embeddings are not finite.")
    alone = embedder.embed(images[:1])[0]
    cosine = alone @ together[0] / max(float(np.linalg.norm(alone) * np.linalg.norm(together[0])), 1e-12)
    if cosine < _SAME:
        raise ConfigError(
            f"an embedding depends on the other images (cosine {cosine:.2f}).",
            hint="Export it in evaluation mode: model.eval().",
        )
    others = [Embedder(champion)] if champion else []
    times: list[list[float]] = [[] for _ in (embedder, *others)]
    for _ in range(_ROUNDS):
        for network, found in zip((embedder, *others), times, strict=True):
            image = np.zeros((1, network.size, network.size, 3), np.uint8)
            network.embed(image)
            began = time.perf_counter()
            network.embed(image)
            found.append(1000 * (time.perf_counter() - began))
    ms, *champion_ms = (float(np.median(found)) for found in times)
    return Trial(embedder.size, embedder.dimension, path.stat().st_size, ms, next(iter(champion_ms), None))


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - not on every system

    import onnxruntime  # noqa: F401, PLC0415 - what it takes by itself does not count

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))


def _main(path: str, champion: str | None = None) -> dict[str, Any]:
    try:
        _limit_memory()
        return asdict(_run(Path(path), Path(champion) if champion else None))
    except (ConfigError, DamagedError) as error:
        return {"error": str(error)}
    except Exception as error:  # onnxruntime's exceptions have no public base class
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))  # noqa: T201
