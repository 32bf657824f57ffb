"""Pre-training: from unlabelled images to the weights of a better backbone, in as many sessions as it takes.

All files are in one folder: `last.ckpt` (encoders, queue, optimiser: the next session resumes from it) and the one
before it, `best.safetensors` (the encoder with the best score so far), `curves.csv`, `loss.png`, TensorBoard's events.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from taxonomist.storage.files import storage_errors
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import BuiltBackbone
from taxonomist.training.backbones.publish import publish_backbone
from taxonomist.training.backbones.weights import load_weights, read_weights
from taxonomist.training.devices import choose_precision, device_kind, device_name
from taxonomist.training.pretraining.batches import ImageSelection, RowIndices, with_usable_groups
from taxonomist.training.pretraining.checkpoints import CHECKPOINT_INTERVAL, LAST, PREVIOUS, newest_checkpoint
from taxonomist.training.pretraining.curves import CURVES, PLOT
from taxonomist.training.pretraining.distributed.inputs import FOLDER, PretrainingInputs
from taxonomist.training.pretraining.distributed.launch import launch
from taxonomist.training.pretraining.distributed.process_group import (
    ProcessGroup,
    process_group,
    started_by_torchrun,
)
from taxonomist.training.pretraining.interruption import Interrupted
from taxonomist.training.pretraining.loop import BEST, PretrainingLoop, Status
from taxonomist.training.pretraining.probe import Probe
from taxonomist.training.pretraining.recipe import PRESETS, Precision, Recipe
from taxonomist.training.pretraining.run_folder import (
    PretrainingResult,
    begin_run,
    fingerprint,
    read_result,
    read_run,
    write_summary,
)
from taxonomist.training.pretraining.step import PretrainingStep

__all__ = ["Interrupted", "PretrainingResult", "Probe", "Status", "pretrain", "publish_pretrained"]

log = logging.getLogger(__name__)

_MIN_IMAGES = 16
# Pixels of a view. In bfloat16 oneDNN (of torch 2.14) leaves gradients unset where a layer halves a map of one pixel,
# and the last stage of a ResNet does that to smaller views.
_MIN_BFLOAT16_SIZE = 17
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_FORMATS: Mapping[Precision, str] = {"32": "32-true", "bf16": "bf16-mixed"}


def pretrain(
    images: npt.NDArray[np.uint8],
    recipe: Recipe,
    folder: Path,
    *,
    rows: RowIndices | None = None,
    groups: RowIndices | None = None,
    probe: Probe | None = None,
    device: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    precision: Precision = "auto",
    checkpoint_interval: float = CHECKPOINT_INTERVAL,
    on_status: Callable[[Status], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PretrainingResult:
    """Pre-train by `recipe` on images uint8 (m, s, s, 3); resume where a former call with the same arguments stopped.

    `rows` (n,) selects the images that take part, None all of them. `groups` (n,) are numbers of products or reports,
    -1 for none, for recipes whose positives are of one group. `probe` has images of the size that will be
    served, of products that take no part; it chooses the best moment, and ends the run when nothing gets better for
    long. Without it the last weights are the best. Where most images are of one group, positives are of one image.

    `precision` fixes the number format of the training. With "auto" a CPU is measured, so that the same seed may give
    another backbone another time. A run that is resumed keeps its format. The summary has it.

    With several `devices` ("auto": all GPUs) it starts a process for each and waits for them. With several `nodes` it
    writes its inputs into the folder and raises Interrupted with the command that starts the training on each of them.
    Started by torchrun itself, it takes part in the training.

    Raises TrainingError when there are too few images or devices, when the embedding collapses, or when the loss is
    zero or not finite; Interrupted (with a checkpoint) when `should_stop` returns true or the process gets SIGTERM;
    StorageError when the disk is full (the former checkpoint stays) or no checkpoint can be read.
    """
    selection = ImageSelection(images, rows)
    _check(selection, recipe, groups)
    recipe, groups = with_usable_groups(recipe, groups)
    recipe_and_data = {"recipe": asdict(recipe), "data": fingerprint(images, groups, rows)}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (result := read_result(folder, recipe_and_data)) is not None:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return result
    if not started_by_torchrun():
        kind = device_kind(device)
        count = (torch.cuda.device_count() if kind == "cuda" else 1) if devices == "auto" else int(devices)
        if count > 1 or nodes > 1:
            device_kind(device, count)
            if precision != "auto":  # the processes find it in the run's folder
                _run_of(folder, recipe_and_data, kind, precision)
            inputs = PretrainingInputs(images, recipe, rows, groups, probe, checkpoint_interval)
            launch(folder, inputs, kind, count, nodes, on_status, should_stop)
            if (result := read_result(folder, recipe_and_data)) is None:
                raise TrainingError("The processes have ended, and the pre-training is not finished.")
            return result
    kind = device_kind(device)
    with process_group(kind) as group, storage_errors(folder):
        if recipe.batch < 2 * group.world_size:
            raise TrainingError(
                f"A batch of {recipe.batch} is too small for {group.world_size} devices.",
                hint="Use fewer --devices or --nodes.",
            )
        number_format, checkpoint = _begin(folder, recipe_and_data, kind, precision, group)
        step = PretrainingStep(
            selection,
            recipe,
            groups,
            device=torch.device(f"cuda:{torch.cuda.current_device()}" if kind == "cuda" else kind),
            number_format=number_format,
            process_group=group,
        )
        loop = PretrainingLoop(
            step,
            folder,
            probe,
            group,
            checkpoint_interval=checkpoint_interval,
            on_status=on_status,
            should_stop=should_stop,
        )
        loop.run(checkpoint)
        summary = {
            **recipe_and_data,
            "origin": step.origin,
            "device": device_name(kind, group.world_size),
            "precision": number_format,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "held_out": int(probe.is_held_out.sum()) if probe else 0,
            **loop.summary(),
        }
        if group.is_first:
            write_summary(folder, summary)
        group.barrier()
    return PretrainingResult(folder, folder / BEST, summary)


def publish_pretrained(
    registry: Registry, result: PretrainingResult, size: int, images: npt.NDArray[np.uint8] | None = None
) -> ModelVersion:
    """Publish the best weights as a version of the backbone, not yet the champion, and return it.

    `size` is the side of served images in pixels; `images` are some of them, as in `publish_backbone`.
    """
    recipe = result.summary["recipe"]
    module = Backbone(recipe["architecture"])
    load_weights(module.encoder, read_weights(result.weights))
    published_recipe = {**recipe, "weights": Path(recipe["weights"]).name}  # the folder is of no use elsewhere
    origin = f"MoCo v2, {result.summary['seen']:,} images seen, from {result.summary['origin']}"
    built = BuiltBackbone(module.eval(), origin)
    details = {"pretraining": {**result.summary, "recipe": published_recipe}}
    return publish_backbone(registry, built, size, details, [result.folder / name for name in (CURVES, PLOT)], images)


def _check(selection: ImageSelection, recipe: Recipe, groups: RowIndices | None) -> None:
    if len(selection) < max(_MIN_IMAGES, recipe.batch):
        raise TrainingError(
            f"{len(selection)} images are too few to pre-train on in batches of {recipe.batch}.",
            hint=_fewer_images_hint(len(selection), recipe.batch),
        )
    if selection.rows is not None and not 0 <= selection.rows.min() <= selection.rows.max() < len(selection.images):
        raise TrainingError(f"The selected rows are not all in 0..{len(selection.images) - 1}.")
    if groups is not None and len(groups) != len(selection):
        raise TrainingError(f"There are {len(groups)} groups for {len(selection)} images.")


def _fewer_images_hint(count: int, batch: int) -> str:
    smaller = [name for name, preset in PRESETS.items() if max(_MIN_IMAGES, preset.batch) <= count]
    needed = f"Add images: {max(_MIN_IMAGES, batch)} are needed"
    if not smaller:
        return f"{needed}."
    return f"{needed}. Or use --preset {smaller[0]}, which trains in batches of {PRESETS[smaller[0]].batch}."


def _begin(
    folder: Path, recipe_and_data: dict[str, Any], kind: str, precision: Precision, group: ProcessGroup
) -> tuple[str, Path | None]:
    """Return the number format of the run and the checkpoint that it resumes from, by the first process's decision.

    Files of another recipe or of other data are removed.
    """
    number_format, checkpoint = _PRECISIONS[0], None
    if group.is_first:
        number_format = _run_of(folder, recipe_and_data, kind, precision)
        checkpoint = newest_checkpoint(folder)
    names = (None, LAST, PREVIOUS)
    numbers = (_PRECISIONS.index(number_format), names.index(checkpoint.name if checkpoint else None))
    precision_number, name_number = map(int, group.broadcast(*numbers))
    name = names[name_number]
    return _PRECISIONS[precision_number], folder / name if name else None


def _run_of(folder: Path, recipe_and_data: dict[str, Any], kind: str, precision: Precision) -> str:
    """Return the number format of the run in the folder, after a new run has begun where there is none."""
    run = read_run(folder, recipe_and_data)
    if run is None:
        run = {**recipe_and_data, "precision": _number_format(recipe_and_data["recipe"], kind, precision)}
        begin_run(folder, run)
        how = "as chosen" if precision != "auto" else "which suits this machine; pretrain_precision fixes it"
        log.info("the number format of the training is %s, %s", run["precision"], how)
    elif precision != "auto" and run["precision"] != _FORMATS[precision]:
        log.warning(
            "the pre-training that is resumed keeps its number format, %s; %s counts for the next one",
            run["precision"],
            _FORMATS[precision],
        )
    return str(run["precision"])


def _number_format(recipe: Mapping[str, Any], kind: str, precision: Precision) -> str:
    smallest = min([recipe["size"], *recipe["sizes"], *([recipe["local_size"]] if recipe["local_views"] else [])])
    too_small = kind == "cpu" and smallest < _MIN_BFLOAT16_SIZE
    if precision == "auto":
        return _PRECISIONS[0] if too_small else choose_precision(torch.device(kind))
    if precision == "bf16" and too_small:
        raise TrainingError(
            f"A CPU cannot train on views of {smallest} pixels in bfloat16; {_MIN_BFLOAT16_SIZE} are needed.",
            hint="Use --precision 32.",
        )
    return _FORMATS[precision]
