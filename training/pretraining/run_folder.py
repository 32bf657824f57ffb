"""The folder of a run: `run.json` says what the run is, `summary.json` what came of it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from taxonomist.storage.files import write_atomically
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.training.pretraining.batches import ImageSelection, RowIndices
from taxonomist.training.pretraining.checkpoints import LAST, PREVIOUS
from taxonomist.training.pretraining.curves import CURVES, PLOT, TENSORBOARD
from taxonomist.training.pretraining.loop import BEST

_RUN, _SUMMARY = "run.json", "summary.json"
_FIELDS_SINCE = {"frozen": 0.0}  # of recipes, that runs of earlier releases do not have


@dataclass(frozen=True)
class PretrainingResult:
    """A finished pre-training: `weights` is the file of the best encoder, `summary` has recipe, data and figures."""

    folder: Path
    weights: Path
    summary: dict[str, Any]


def fingerprint(
    images: npt.NDArray[np.uint8], groups: RowIndices | None, rows: RowIndices | None = None
) -> dict[str, Any]:
    """Return number and size of a run's images, and a hash of some of them, of the groups and of the selection.

    Images are only ever appended to a store, so that a hundred of them, evenly taken, distinguish two stores.
    """
    selection = ImageSelection(images, rows)
    digest = hashlib.sha256()
    for position in np.linspace(0, len(selection) - 1, 100).astype(int):
        digest.update(np.ascontiguousarray(selection.take(position)).tobytes())
    for numbers in (groups, rows):
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers, np.int64).tobytes())
    return {"count": len(selection), "size": int(images.shape[1]), "sha256": digest.hexdigest()}


def read_run(folder: Path, recipe_and_data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the unfinished run in the folder, None when there is none of this recipe and these data."""
    return _read_matching(folder / _RUN, recipe_and_data)


def begin_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Remove the files of another run, and write what this one is."""
    for name in (LAST, PREVIOUS, BEST, CURVES, PLOT, _SUMMARY):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
    write_atomically(folder / _RUN, json.dumps({FORMAT: 1, **run}, indent=2).encode())


def read_result(folder: Path, recipe_and_data: Mapping[str, Any]) -> PretrainingResult | None:
    """Return the finished run in the folder, None when there is none of this recipe and these data."""
    summary = _read_matching(folder / _SUMMARY, recipe_and_data)
    if summary is None or not (folder / BEST).exists():
        return None
    return PretrainingResult(folder, folder / BEST, summary)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary of a finished run."""
    write_atomically(folder / _SUMMARY, json.dumps({FORMAT: 1, **summary}, indent=2).encode())


def _read_matching(path: Path, recipe_and_data: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read: {error}", hint="Delete it; the run begins again.") from error
    if not isinstance(content, dict):
        return None
    check_format(path, content.pop(FORMAT, 1), newest=1)
    if isinstance(content.get("recipe"), dict):
        content["recipe"] = _FIELDS_SINCE | content["recipe"]
    expected = json.loads(json.dumps(recipe_and_data))  # with lists for tuples, as in the file
    return content if {key: content.get(key) for key in expected} == expected else None
