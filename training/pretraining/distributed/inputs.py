"""The inputs of a pre-training as files, for the processes that train."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from taxonomist.storage.files import write_atomically
from taxonomist.storage.formats import FORMAT, check_format, format_of
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.batches import RowIndices
from taxonomist.training.pretraining.checkpoints import CHECKPOINT_INTERVAL
from taxonomist.training.pretraining.probe import Probe
from taxonomist.training.pretraining.recipe import Recipe

FOLDER = "processes"
"""The folder for what the processes exchange, in that of the run."""

_INPUTS, _ARRAYS, _IMAGES = "inputs.json", "arrays.npz", "images.npy"
_PROBE_FIELDS = ("images", "labels", "groups")


@dataclass(frozen=True)
class PretrainingInputs:
    """The arguments of `pretrain`: images uint8 (m, s, s, 3), recipe, rows (n,), groups (n,), probe, and seconds
    between two checkpoints."""

    images: npt.NDArray[np.uint8]
    recipe: Recipe
    rows: RowIndices | None
    groups: RowIndices | None
    probe: Probe | None
    checkpoint_interval: float = CHECKPOINT_INTERVAL

    def write(self, folder: Path, kind: str) -> None:
        """Write the inputs and the kind of device into `folder`. Images that are a file already are not copied."""
        folder.mkdir(parents=True, exist_ok=True)
        location = _location(self.images)
        if location is None:
            np.save(folder / _IMAGES, self.images, allow_pickle=False)
        arrays: dict[str, Any] = {"rows": self.rows, "groups": self.groups}
        if self.probe is not None:
            arrays |= {f"probe_{name}": getattr(self.probe, name) for name in _PROBE_FIELDS}
            arrays["probe_held_out"] = self.probe.is_held_out
        np.savez(folder / _ARRAYS, **{name: values for name, values in arrays.items() if values is not None})
        inputs = {
            FORMAT: 1,
            "recipe": asdict(self.recipe),
            "device": kind,
            "location": location,
            "shape": self.images.shape,
            "checkpoint_interval": self.checkpoint_interval,
        }
        write_atomically(folder / _INPUTS, json.dumps(inputs).encode())

    @classmethod
    def read(cls, folder: Path) -> tuple["PretrainingInputs", str]:
        """Return the inputs and the kind of device. Raises TrainingError when there are none."""
        try:
            inputs = json.loads((folder / _INPUTS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TrainingError(
                f"There is nothing to pre-train in {folder.parent}.",
                hint="Run taxonomist pretrain --nodes 2 (or more) first.",
            ) from None
        check_format(folder / _INPUTS, format_of(inputs), newest=1)
        images: npt.NDArray[np.uint8]
        if inputs["location"] is None:
            images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        else:
            file, offset = inputs["location"]
            images = np.memmap(file, np.uint8, "r", offset, tuple(inputs["shape"]))
        with np.load(folder / _ARRAYS, allow_pickle=False) as file:
            arrays = dict(file)
        probe = None
        if "probe_labels" in arrays:
            images_of_probe, labels, groups = (arrays[f"probe_{name}"] for name in _PROBE_FIELDS)
            probe = Probe(images_of_probe, labels, groups, arrays.get("probe_held_out"))
        interval = float(inputs.get("checkpoint_interval", CHECKPOINT_INTERVAL))
        recipe = TypeAdapter(Recipe).validate_python(inputs["recipe"])
        return cls(images, recipe, arrays.get("rows"), arrays.get("groups"), probe, interval), str(inputs["device"])


def _location(images: npt.NDArray[np.uint8]) -> tuple[str, int] | None:
    """Return file and offset of an array that is a contiguous part of a mapped file, else None."""
    mapped: Any = images
    while isinstance(mapped.base, np.ndarray):
        mapped = mapped.base
    if not isinstance(mapped, np.memmap) or mapped.filename is None or not images.flags.c_contiguous:
        return None
    return str(Path(mapped.filename).resolve()), mapped.offset + images.ctypes.data - mapped.ctypes.data
