"""Pre-training: from unlabelled pictures to the weights of a better backbone, in as many sittings as it takes.

Everything lies in one folder: `last.ckpt` (encoders, queue, optimiser: whence the next sitting goes on) and the one
before it, `best.safetensors` (the encoder with the best score so far), `curves.csv`, `loss.png`, TensorBoard's events.
"""

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
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
from pytorch_lightning.strategies import DDPStrategy

from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import DamagedError, TrainingError
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import BuiltBackbone
from taxonomist.training.backbones.publish import publish_backbone
from taxonomist.training.backbones.weights import load_weights, read_weights
from taxonomist.training.pretraining.batches import Rows, Selection
from taxonomist.training.pretraining.callback import BEST, CURVES, PLOT, Interrupted, Status, Watch
from taxonomist.training.pretraining.checkpoints import BEFORE, LAST, Checkpoints, newest
from taxonomist.training.pretraining.distributed.launch import FOLDER, Inputs, launch
from taxonomist.training.pretraining.distributed.process_group import Team, device_kind, started_by_torchrun, team
from taxonomist.training.pretraining.moco_module import Contrast
from taxonomist.training.pretraining.precision import choose_precision
from taxonomist.training.pretraining.probe import Probe
from taxonomist.training.pretraining.recipe import Recipe

__all__ = ["Interrupted", "Pretrained", "Probe", "Status", "pretrain", "publish_pretrained"]

log = logging.getLogger(__name__)

_RUN = "run.json"
_SUMMARY = "summary.json"
_STEPS_A_LEG = 100  # at most; a checkpoint is written after each, and a run that was killed goes on from the last
_FEWEST = 16
# Pixels of a view. In bfloat16 oneDNN (of torch 2.14) leaves gradients unset where a layer halves a map of one pixel,
# and the last stage of a ResNet does that to smaller views.
_SMALLEST_HALF = 17
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


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
    rows: Rows | None = None,
    groups: Rows | None = None,
    probe: Probe | None = None,
    device: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    on_status: Callable[[Status], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Pretrained:
    """Pre-train `recipe` on pictures uint8 (m, s, s, 3), and go on where a former call with the same ones stopped.

    `rows` (n,) says which of the pictures take part, None that all do. `groups` (n,) are numbers of products or
    reports, -1 for none, for recipes whose positives are of one group. `probe` has labelled pictures of the size that
    will be served; without it the last weights are the best.

    With several `devices` ("auto": all GPUs) it starts a process for each and waits for them. With several `nodes` it
    puts everything into the folder and raises Interrupted with the command that starts the training on each of them.
    Started by torchrun itself, it takes part in the training.

    Raises TrainingError when there are too few pictures or devices, when the embedding collapses or the loss is no
    number; Interrupted (a checkpoint is there) when `should_stop` says so or the process gets SIGTERM; StorageError
    when the disk is full (the former checkpoint is there) or no checkpoint can be read.
    """
    selection = Selection(pictures, rows)
    _check(selection, recipe, groups)
    recipe_and_data = {"recipe": asdict(recipe), "data": fingerprint(pictures, groups, rows)}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (done := _finished(folder, recipe_and_data)) is not None:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return done
    if not started_by_torchrun():
        kind = device_kind(device)
        count = (torch.cuda.device_count() if kind == "cuda" else 1) if devices == "auto" else int(devices)
        if count > 1 or nodes > 1:
            device_kind(device, count)
            launch(folder, Inputs(pictures, recipe, rows, groups, probe), kind, count, nodes, on_status, should_stop)
            if (done := _finished(folder, recipe_and_data)) is None:
                raise TrainingError("The processes have ended, and the pre-training is not finished.")
            return done
    kind = device_kind(device)
    with team(kind) as members, _quiet(), storage_errors(folder):
        if recipe.batch < 2 * members.size:
            raise TrainingError(f"A batch of {recipe.batch} is too small for {members.size} devices.")
        precision, checkpoint = _begin(folder, recipe_and_data, kind, members)
        leg = min(max(1, len(selection) // recipe.batch), _STEPS_A_LEG)
        module = Contrast(selection, recipe, groups, leg)
        half = precision.startswith("bf16")
        watch = Watch(module, folder, probe, on_status, should_stop, half=half, team=members)
        trainer = _trainer(kind, members, precision, folder, watch, module.total_steps)
        trainer.fit(module, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
        summary = {
            **recipe_and_data,
            "origin": module.origin,
            "device": _device_name(kind, members),
            "precision": precision,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **watch.summary(),
        }
        if members.is_first:
            write_atomically(folder / _SUMMARY, json.dumps(summary, indent=2).encode())
        members.wait()
    return Pretrained(folder, folder / BEST, summary)


def publish_pretrained(registry: Registry, done: Pretrained, size: int) -> ModelVersion:
    """A new version of the backbone with the best weights, not yet the champion. `size` is that of served pictures."""
    recipe = done.summary["recipe"]
    module = Backbone(recipe["architecture"])
    load_weights(module.encoder, read_weights(done.weights))
    published_recipe = {**recipe, "weights": Path(recipe["weights"]).name}  # other machines have other folders
    seen = done.summary["seen"]
    built = BuiltBackbone(module.eval(), f"MoCo v2, {seen:,} pictures seen, from {done.summary['origin']}")
    details = {"pretraining": {**done.summary, "recipe": published_recipe}}
    return publish_backbone(registry, built, size, details, [done.folder / name for name in (CURVES, PLOT)])


def fingerprint(pictures: npt.NDArray[np.uint8], groups: Rows | None, rows: Rows | None = None) -> dict[str, Any]:
    """What a run's data were: their number and size, and a hash of some pictures, of the groups and of the selection.

    Pictures are only ever appended to a store, so that a hundred of them, evenly taken, tell two stores apart.
    """
    selection = Selection(pictures, rows)
    digest = hashlib.sha256()
    for at in np.linspace(0, len(selection) - 1, 100).astype(int):
        digest.update(np.ascontiguousarray(selection.take(at)).tobytes())
    for numbers in (groups, rows):
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers, np.int64).tobytes())
    return {"count": len(selection), "size": int(pictures.shape[1]), "sha256": digest.hexdigest()}


def _check(selection: Selection, recipe: Recipe, groups: Rows | None) -> None:
    if len(selection) < max(_FEWEST, recipe.batch):
        raise TrainingError(
            f"{len(selection)} pictures are too few to pre-train on in batches of {recipe.batch}.",
            hint="Add pictures, or choose a smaller batch.",
        )
    if selection.rows is not None and not 0 <= selection.rows.min() <= selection.rows.max() < len(selection.pictures):
        raise TrainingError(f"The selected rows are not all in 0..{len(selection.pictures) - 1}.")
    if groups is not None and len(groups) != len(selection):
        raise TrainingError(f"There are {len(groups)} groups for {len(selection)} pictures.")


def _begin(folder: Path, recipe_and_data: dict[str, Any], kind: str, members: Team) -> tuple[str, Path | None]:
    """The precision of the run, and the checkpoint that it goes on from. The first process decides for all.

    What was left of another run is removed, unless it is of the same recipe and data.
    """
    precision, checkpoint = _PRECISIONS[0], None
    if members.is_first:
        run = _read(folder / _RUN)
        if run is None or {key: run.get(key) for key in recipe_and_data} != _as_json(recipe_and_data):
            for name in (LAST, BEFORE, BEST, CURVES, PLOT, _SUMMARY):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
            run = {**recipe_and_data, "precision": _precision(recipe_and_data["recipe"], kind)}
            write_atomically(folder / _RUN, json.dumps(run, indent=2).encode())
        precision, checkpoint = str(run["precision"]), newest(folder)
    names = (None, LAST, BEFORE)
    choice, place = members.as_first(_PRECISIONS.index(precision), names.index(checkpoint.name if checkpoint else None))
    found = names[int(place)]
    return _PRECISIONS[int(choice)], folder / found if found else None


def _precision(recipe: Mapping[str, Any], kind: str) -> str:
    smallest = min([recipe["size"], *recipe["sizes"], *([recipe["local_size"]] if recipe["local_views"] else [])])
    if kind == "cpu" and smallest < _SMALLEST_HALF:
        return _PRECISIONS[0]
    return choose_precision(torch.device(kind))


def _trainer(kind: str, members: Team, precision: str, folder: Path, watch: Watch, steps: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=members.here,
        num_nodes=members.nodes,
        # The queue is filled alike everywhere, so there is no need to send it with each step.
        strategy=DDPStrategy(broadcast_buffers=False) if members.size > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]  # one of Lightning's names
        max_steps=steps,
        max_epochs=-1,
        logger=TensorBoardLogger(str(folder), name="", version="tensorboard"),
        callbacks=[watch],
        plugins=[Checkpoints()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


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


def _device_name(kind: str, members: Team) -> str:
    name = torch.cuda.get_device_name() if kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{members.size} x {name}" if members.size > 1 else name


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
