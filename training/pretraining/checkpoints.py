"""Checkpoints of a pre-training: `last.ckpt`, and the one before it, in case the last one is damaged."""

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

LAST, PREVIOUS = "last.ckpt", "last-1.ckpt"
# Names in checkpoints of earlier versions, and those of today.
_RENAMED_BUFFERS = {"moco.keys": "moco.queue", "moco.key_ids": "moco.queue_ids", "moco.position": "moco.queue_ptr"}
_RENAMED_CALLBACKS = {"Watch": "PretrainingCallback"}
_RENAMED_COLUMNS = {"spread": "projection_std"}


class CheckpointFiles(TorchCheckpointIO):
    """Writes each checkpoint whole or not at all, directly to its place, and keeps the former one.

    Lightning's own implementation makes two copies first, one in memory and one in the system's folder for temporary
    files.
    """

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Path | str, storage_options: Any = None) -> None:  # noqa: ARG002
        """Raises OSError; the former checkpoints then stay as they were."""
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
            path.replace(path.with_name(PREVIOUS))
        part.replace(path)
        sync_folder(path.parent)

    def load_checkpoint(self, path: Path | str, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return a checkpoint, with the names of today where an earlier version has written it."""
        checkpoint = super().load_checkpoint(path, *arguments, **options)
        _rename(checkpoint["state_dict"], _RENAMED_BUFFERS)
        _rename(checkpoint["callbacks"], _RENAMED_CALLBACKS)
        for point in checkpoint["callbacks"]["PretrainingCallback"]["points"]:
            _rename(point, _RENAMED_COLUMNS)
        return checkpoint


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
