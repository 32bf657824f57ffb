"""Pre-training: from unlabelled pictures to the weights of a better backbone, in as many sittings as it takes.

Everything lies in one folder: `last.ckpt` (encoders, queue, optimiser: whence the next sitting goes on),
`best.safetensors` (the encoder with the best score so far), `curves.csv`, `loss.png`, TensorBoard's events.
"""

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from storage.files import write_whole
from storage.registry import ModelVersion, Registry
from taxonomy.errors import DamagedError, TrainingError
from training.backbone import NAME, Backbone, BackboneSpec, Built, export, load_weights
from training.contrast import Contrast
from training.precision import choose_precision
from training.probe import Probe
from training.recipe import Recipe
from training.watch import BEST, CURVES, LAST, PLOT, Interrupted, Status, Watch
from training.weights import read_weights

__all__ = ["Interrupted", "Pretrained", "Probe", "Status", "pretrain", "publish_pretrained"]

log = logging.getLogger(__name__)

_RUN = "run.json"
_SUMMARY = "summary.json"
_STEPS_A_LEG = 100  # at most; a checkpoint is written after each, and a run that was killed goes on from the last
_FEWEST = 16


@dataclass(frozen=True)
class Pretrained:
    """A finished pre-training: `weights` are those of the best encoder, `summary` what it was and came to."""

    folder: Path
    weights: Path
    summary: dict[str, Any]


def pretrain(
    pictures: npt.NDArray[np.uint8],
    recipe: Recipe,
    folder: Path,
    *,
    groups: npt.NDArray[np.int64] | None = None,
    probe: Probe | None = None,
    device: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    on_status: Callable[[Status], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Pretrained:
    """Pre-train `recipe` on pictures uint8 (n, s, s, 3), and go on where a former call with the same ones stopped.

    `groups` (n,) are numbers of products or reports, -1 for none, for recipes whose positives are of one group.
    `probe` has labelled pictures of the size that will be served; without it the last weights are the best. With
    `devices` and `nodes` above 1 it is to be started by torchrun, or starts the processes of one node itself.

    Raises TrainingError when there are too few pictures, when the embedding collapses or the loss is no number, and
    Interrupted (a checkpoint is there) when `should_stop` says so.
    """
    if len(pictures) < max(_FEWEST, recipe.batch):
        raise TrainingError(
            f"{len(pictures)} pictures are too few to pre-train on in batches of {recipe.batch}.",
            hint="Add pictures, or choose a smaller batch.",
        )
    recipe_and_data = {"recipe": asdict(recipe), "data": fingerprint(pictures, groups)}
    folder.mkdir(parents=True, exist_ok=True)
    if (done := _finished(folder, recipe_and_data)) is not None:
        return done
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    precision = _begin(folder, recipe_and_data, torch.device(kind))
    steps_per_epoch = max(1, len(pictures) // recipe.batch)
    module = Contrast(pictures, recipe, groups, min(steps_per_epoch, _STEPS_A_LEG))
    watch = Watch(module, folder, probe, on_status, should_stop, half=precision.startswith("bf16"))
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if kind == "cuda" else kind,
            devices=devices,
            num_nodes=nodes,
            precision=precision,  # type: ignore[arg-type]  # one of Lightning's names
            max_steps=module.total_steps,
            max_epochs=-1,
            logger=TensorBoardLogger(str(folder), name="", version="tensorboard"),
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
        )
        last = folder / LAST
        trainer.fit(module, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    summary = {
        **recipe_and_data,
        "origin": module.origin,
        "device": _device_name(kind),
        "precision": precision,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **watch.summary(),
    }
    if trainer.is_global_zero:
        write_whole(folder / _SUMMARY, json.dumps(summary, indent=2).encode())
    trainer.strategy.barrier()
    return Pretrained(folder, folder / BEST, summary)


def publish_pretrained(registry: Registry, done: Pretrained, size: int) -> ModelVersion:
    """A new version of the backbone with the best weights, not yet the champion. `size` is that of served pictures."""
    recipe = done.summary["recipe"]
    spec = BackboneSpec(recipe["architecture"], str(done.weights), recipe["seed"], size)
    module = Backbone(spec.architecture)
    load_weights(module, read_weights(done.weights))
    seen = done.summary["seen"]
    built = Built(module.eval(), f"MoCo v2, {seen:,} pictures seen, from {done.summary['origin']}")
    with registry.stage(NAME) as folder:
        export(built.module, folder, spec)
        for name in (CURVES, PLOT):
            shutil.copyfile(done.folder / name, folder / name)
        manifest = {
            "kind": "backbone",
            "architecture": spec.architecture,
            "size": size,
            "dimension": built.module.dimension,
            "origin": built.origin,
            "pretraining": done.summary,
            "torch": torch.__version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return registry.publish(NAME, folder, manifest)


def fingerprint(pictures: npt.NDArray[np.uint8], groups: npt.NDArray[np.int64] | None) -> dict[str, Any]:
    """What a run's data were: their number and size, and a hash of some rows and of the groups.

    Pictures are only ever appended to a store, so that a hundred of them, evenly taken, tell two stores apart.
    """
    digest = hashlib.sha256()
    for row in np.linspace(0, len(pictures) - 1, 100).astype(int):
        digest.update(np.ascontiguousarray(pictures[row]).tobytes())
    if groups is not None:
        digest.update(np.ascontiguousarray(groups).tobytes())
    return {"count": len(pictures), "size": int(pictures.shape[1]), "sha256": digest.hexdigest()}


def _begin(folder: Path, recipe_and_data: dict[str, Any], device: torch.device) -> str:
    """The precision of the run. What was left of another run is removed, unless it is of the same recipe and data."""
    run = _read(folder / _RUN)
    if run is not None and {key: run.get(key) for key in recipe_and_data} == _as_json(recipe_and_data):
        return str(run["precision"])
    for name in (LAST, BEST, CURVES, PLOT, _SUMMARY):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    precision = choose_precision(device)
    write_whole(folder / _RUN, json.dumps({**recipe_and_data, "precision": precision}, indent=2).encode())
    return precision


def _finished(folder: Path, recipe_and_data: dict[str, Any]) -> Pretrained | None:
    summary = _read(folder / _SUMMARY)
    if summary is None or {key: summary.get(key) for key in recipe_and_data} != _as_json(recipe_and_data):
        return None
    if not (folder / BEST).exists():
        return None
    return Pretrained(folder, folder / BEST, summary)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read: {error}", hint="Delete it; the run begins again.") from error
    return found if isinstance(found, dict) else None


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """With lists for tuples, as it comes back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells a person at a terminal how to use it; here nobody reads that."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="(pytorch_lightning|lightning_fabric|torch)\\..*")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
