"""Checkpoints of a pre-training: `last.ckpt`, and the one before it, in case the last one is damaged."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from taxonomist.storage.files import sync_file, sync_folder
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError

log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL = 60.0
"""Seconds between two checkpoints."""

LAST, PREVIOUS = "last.ckpt", "last-1.ckpt"
# Names in checkpoints of earlier versions, and those of today.
_RENAMED_BUFFERS = {"moco.keys": "moco.queue", "moco.key_ids": "moco.queue_ids", "moco.position": "moco.queue_ptr"}
_RENAMED_COLUMNS = {"spread": "projection_std"}


def save_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all, and keep the former one.

    Raises OSError; the former checkpoints then stay as they were.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            _save({FORMAT: 2, **checkpoint}, file)
        sync_file(part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if path.exists():
        path.replace(path.with_name(PREVIOUS))
    part.replace(path)
    sync_folder(path.parent)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint, its tensors on the CPU, with the names of today where an earlier version has written it."""
    checkpoint = dict(torch.load(path, map_location="cpu", weights_only=True))
    if FORMAT not in checkpoint:
        return _of_lightning(checkpoint)
    check_format(path, checkpoint[FORMAT], newest=2)
    return checkpoint


def _of_lightning(old: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint that pytorch-lightning has written, which was at the end of a segment of the curves."""
    _rename(old["state_dict"], _RENAMED_BUFFERS)
    callbacks = old["callbacks"]
    curve = callbacks.get("PretrainingCallback", callbacks.get("Watch"))
    for point in curve["points"]:
        _rename(point, _RENAMED_COLUMNS)
    return {
        "step": old["global_step"],
        "points": curve["points"],
        "best": curve["best"],
        "point_steps": curve["points"][0]["step"] if curve["points"] else None,
        "points_per_score": None,
        "seconds": 0.0,
        "state_dict": old["state_dict"],
        "optimizer": old["optimizer_states"][0],
        "scaler": old.get("MixedPrecision", {}),
        "sums": [[0.0, 0.0, 0.0]],
    }


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read; None where there is none.

    A damaged one is removed with a warning when the one before it is whole. Raises DamagedError when none is.
    """
    paths = [path for name in (LAST, PREVIOUS) if (path := folder / name).exists()]
    whole = next((path for path in paths if _is_whole(path)), None)
    if paths and whole is None:
        raise DamagedError(f"{paths[0]} cannot be read.", hint=f"Delete the folder {folder}; the run begins again.")
    for path in paths:
        if path == whole:
            break
        log.warning("%s is damaged and was removed; the run resumes from %s", path, whole)
        path.unlink()  # otherwise the next checkpoint would put it in the place of the whole one
    return whole


def _rename(entries: dict[str, Any], names: Mapping[str, str]) -> None:
    for old, new in names.items():
        if old in entries:
            entries[new] = entries.pop(old)


def _save(checkpoint: Mapping[str, Any], file: Any) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's error from closing its archive hides the reason of the failed write
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _is_whole(path: Path) -> bool:
    """Return whether the checksums of a checkpoint's parts are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # damage raises many kinds of errors
        return False
