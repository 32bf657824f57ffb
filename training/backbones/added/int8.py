"""An added backbone in integers of 8 bits, where these embed as it does and are faster."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import Embedder
from taxonomist.taxonomy.errors import ConfigError, DamagedError
from taxonomist.training.backbones.added.trial import Trial, try_backbone
from taxonomist.training.backbones.quantise import quantise

SAMPLE = 400  # images: one half to quantise, the other to compare
FEWEST = 100
_SAMPLE_BYTES = 256 * 2**20
# EfficientNet-Lite0 passes with a scale for each channel, and fails with one for a whole layer, which is too coarse.
_LEAST_COSINE, _LEAST_SAME = 0.9, 0.6


def sample_size(size: int) -> int:
    """Return how many images of `size` pixels are needed."""
    return min(SAMPLE, _SAMPLE_BYTES // (3 * size * size))


def quantise_where_it_holds(
    path: Path, images: npt.NDArray[np.uint8], trial: Trial, champion: Path | None
) -> tuple[Trial, str]:
    """Replace a backbone by one in int8 where that embeds alike and is faster.

    `images` (n, size, size, 3) are of the catalogue, `trial` is that of the backbone as it is. Return the trial of the
    backbone that remains, and in words which it is and why.
    """
    if len(images) < FEWEST:
        return trial, f"float32: {len(images)} images are too few to quantise it and to compare, {FEWEST} are needed"
    used, others = images[: len(images) // 2], images[len(images) // 2 :]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.name
        try:
            quantise(path, target, used)
            cosine, same = agreement(Embedder(path).embed(others), Embedder(target).embed(others))
            found = try_backbone(target, champion)
        except (ConfigError, DamagedError) as error:
            return trial, f"float32: int8 cannot be run ({error})"
        except Exception as error:  # the quantiser's have no common base
            reason = str(error).strip().splitlines() or [""]
            return trial, f"float32: it cannot be quantised ({type(error).__name__}: {reason[0][:200]})"
        figures = f"cosine {cosine:.3f}, the same nearest image for {same:.0%} of {len(others)} images"
        if cosine < _LEAST_COSINE or same < _LEAST_SAME:
            return trial, f"float32, since int8 embeds differently: {figures}"
        if found.ms >= trial.ms:
            return trial, f"float32, since int8 is not faster ({found.ms:.1f} ms against {trial.ms:.1f}): {figures}"
        shutil.move(target, path)
    return found, f"int8, which embeds as float32 does: {figures}"


def agreement(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return how alike two backbones embed images, both (n, d): the mean cosine of the two embeddings of an image, and
    the share of images whose nearest other image, by cosine, is the same."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (first, second)]
    nearest = []
    for rows in units:
        similar = rows @ rows.T
        np.fill_diagonal(similar, -np.inf)
        nearest.append(similar.argmax(axis=1))
    return float((units[0] * units[1]).sum(axis=1).mean()), float((nearest[0] == nearest[1]).mean())
