"""Checkpoints of a pre-training: `last.ckpt`, and the one before it for the day on which that is damaged."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from taxonomist.storage.files import sync_file, sync_folder
from taxonomist.taxonomy.errors import DamagedError

log = logging.getLogger(__name__)

LAST, BEFORE = "last.ckpt", "last-1.ckpt"


class Checkpoints(TorchCheckpointIO):
    """Writes checkpoints where they belong, each whole or not at all, and keeps the former one.

    Lightning's own way makes two copies on the way, one in memory and one in the system's folder for temporary files.
    """

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Path | str, storage_options: Any = None) -> None:  # noqa: ARG002
        """Raises OSError; then the former checkpoints are as they were."""
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                _save(checkpoint, file)
            sync_file(part)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if path.exists():
            path.replace(path.with_name(BEFORE))
        part.replace(path)
        sync_folder(path.parent)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; None where there is none.

    A damaged one is removed with a warning when the one before it is whole. Raises DamagedError when none is.
    """
    there = [path for name in (LAST, BEFORE) if (path := folder / name).exists()]
    whole = next((path for path in there if _is_whole(path)), None)
    if there and whole is None:
        raise DamagedError(f"{there[0]} cannot be read.", hint=f"Delete the folder {folder}; the run begins again.")
    for path in there:
        if path == whole:
            break
        log.warning("%s is damaged and was removed; the run goes on from %s", path, whole)
        path.unlink()  # else the next checkpoint would put it in the place of the one that is whole
    return whole


def _save(checkpoint: Mapping[str, Any], file: Any) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # what torch says when it closes its archive hides why that could not be written
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _is_whole(path: Path) -> bool:
    """By the checksums of its parts."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # it has as many forms as there are bytes
        return False
