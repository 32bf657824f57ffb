"""From what a person names to the files of a backbone: `backbone.onnx`, and where there are some, its torch weights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.added.onnx_file import LARGEST, SMALLEST, licence_of, read_onnx
from taxonomist.training.backbones.added.trial import Trial
from taxonomist.training.backbones.architectures import TIMM, Colour
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.export import export_backbone
from taxonomist.training.backbones.timm_networks import describe_network, download_weights, load_timm_weights

_TOLERANCE = 1e-3  # of the largest number of an embedding


@dataclass(frozen=True)
class Candidate:
    """A backbone whose files are written. `licence` is that of its weights, "" where it is not known; `timms_licence`
    is that of the weights that timm publishes for the network.
    """

    architecture: str
    origin: str
    licence: str
    timms_licence: str = ""

    def manifest(self, trial: Trial, number_format: str, near: float | None) -> dict[str, Any]:
        """Return what the registry keeps of it. `near` is its `near_distance`, None where it was not measured."""
        return {
            "kind": "backbone",
            "architecture": self.architecture,
            "size": trial.size,
            "dimension": trial.dimension,
            "number_format": number_format,
            "origin": self.origin,
            "licence": self.licence,
            **({} if near is None else {"near_distance": near}),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def write_onnx_file(path: Path, folder: Path, size: int | None, mean: Colour, std: Colour) -> Candidate:
    """Write a user's ONNX file as a backbone into the folder. Raises ConfigError, see `read_onnx`."""
    model = read_onnx(path, size, mean, std)
    licence = licence_of(model)
    del model.metadata_props[:]
    onnx.save(model, str(folder / BACKBONE_FILE))
    return Candidate(path.stem, f"file {path.name}", licence)


def write_timm_network(name: str, folder: Path, size: int | None, weights: Path | None) -> Candidate:
    """Write a network of timm as a backbone into the folder, with weights from a file or from timm's hub.

    `size` is that of the weights unless it is given. Raises ConfigError when timm does not know the name or the network
    does not take this size, TrainingError when weights cannot be had or do not fit, or the network cannot be exported.
    """
    described = describe_network(name)
    side = size or described.input_size[1]
    if not SMALLEST <= side <= LARGEST:
        raise ConfigError(f"Images of {side} pixels are not supported.", hint=f"Use {SMALLEST} to {LARGEST} pixels.")
    module = Backbone(f"{TIMM}{name}").eval()
    load_timm_weights(module.encoder, name, weights or download_weights(name), complete=weights is not None)
    if side != described.input_size[1]:
        module.set_size(side)
    _export(module, folder, side)
    where = f"file {weights.name}" if weights else f"timm's hub, {described.hf_hub_id}"
    timms_licence = described.license or ""
    licence = "" if weights else timms_licence
    return Candidate(module.architecture.name, f"{name}, weights: {where}", licence, timms_licence)


def _export(module: Backbone, folder: Path, size: int) -> None:
    try:
        export_backbone(module, folder, size)
    except Exception as error:  # the exporter's and the network's own exceptions have no common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TrainingError(f"{module.architecture.name} cannot be exported to ONNX: {reason[0]}") from error
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    found = Embedder(folder / BACKBONE_FILE).embed(images)
    if found.shape != expected.shape or np.abs(found - expected).max() > _TOLERANCE * np.abs(expected).max():
        raise TrainingError(
            f"{module.architecture.name} gives other embeddings after its export to ONNX.", hint="Use another network."
        )
