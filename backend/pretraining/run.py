"""The whole job in steps: prepare, pre-train, publish, adopt. It can be killed at any moment; the next call resumes.

This module imports torch. Only the commands that pre-train and the child process of the worker import it.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from taxonomist.backend.pretraining.adopt import REPORT, adopt
from taxonomist.backend.pretraining.dataset import (
    RunData,
    build_probe,
    choose_images,
    group_numbers,
    images_and_rows,
    read_data,
    write_data,
)
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store
from taxonomist.backend.pretraining.start_weights import with_start_weights
from taxonomist.backend.pretraining.state import (
    PretrainRequest,
    Run,
    ShouldStop,
    StoppedError,
    differences,
    pretraining_folder,
    read_run,
    write_run,
)
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.progress import StepProgress
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError, TrainingError
from taxonomist.training.pretraining.pretrain import (
    Interrupted,
    PretrainingResult,
    Status,
    pretrain,
    publish_pretrained,
)
from taxonomist.training.pretraining.recipe import PRESETS, Recipe

log = logging.getLogger(__name__)

PREPARED, PRETRAINED = 0.1, 0.8  # share of the whole job that is done after these steps
LOG_EVERY_S = 60.0
_MEASURED = 200  # images


def run(
    services: Services,
    request: PretrainRequest,
    progress: StepProgress,
    should_stop: ShouldStop,
    on_plan: Callable[[Run, RunData], None] = lambda current, data: None,
) -> str:
    """Do all remaining steps and return the outcome in one line. Call it inside `exclusive_pretraining`.

    `on_plan` is called with the run and its data before the training. Raises `StoppedError` when `should_stop` returns
    true, `ConfigError` when the unfinished run does not match the request, `TrainingError` when there are too few
    images or the training fails.
    """
    home = services.settings.home
    current = _begin(services, request)
    try:
        if current.step == "prepare":
            current = _prepare(services, current, progress, should_stop)
        if current.step == "pretrain":
            current = _publish(services, current, _pretrain(services, current, request, progress, should_stop, on_plan))
        if request.out is not None:
            write_report(services, current, request.out)
        outcome = _adopt(services, current, request, progress, should_stop)
        if current.early_stop:
            outcome = f"{outcome} {current.early_stop}"
        if current.precision:
            outcome = f"{outcome} The number format of its training was {current.precision}."
    except (TrainingError, NotFoundError, DamagedError) as error:  # resuming would fail again
        write_run(home, current.model_copy(update={"step": "failed", "outcome": str(error), "job": request.job}))
        raise
    write_run(home, current.model_copy(update={"step": "done", "outcome": outcome, "job": request.job}))
    progress("done", 1.0)
    return outcome


def _begin(services: Services, request: PretrainRequest) -> Run:
    home = services.settings.home
    old = read_run(home)
    if old is not None and old.unfinished and request.resume is not False:
        differs = (
            request.preset not in {None, old.preset},
            request.epochs not in {None, old.recipe["epochs"]},
            request.weights not in {None, old.weights},
        )
        if any(differs):
            raise ConfigError(
                f"A pre-training by preset {old.preset} over {old.recipe['epochs']} epochs from the weights "
                f"{old.weights} is not finished.",
                hint="--resume without other options resumes it, --fresh discards it.",
            )
        if old.step == "pretrain" and (data := read_data(home)) is not None and data.tested is None:
            log.warning(
                "an earlier release began the pre-training, and trained on products of test parts: it begins again, by "
                "the same recipe and without them"
            )
            shutil.rmtree(pretraining_folder(home) / "run", ignore_errors=True)
            old = write_run(home, old.model_copy(update={"step": "prepare"}))
        log.info("resuming the pre-training by preset %s at the step %s", old.preset, old.step)
        for difference in differences(services.settings, old):
            log.warning("the pre-training that is resumed has %s, and that counts; --fresh begins anew", difference)
        return old
    if request.resume:
        raise NotFoundError("There is no unfinished pre-training.", hint="Start one without --resume.")
    preset = request.preset or services.settings.pretrain_preset
    recipe = _recipe(services, preset, request)
    resolved = with_start_weights(services, recipe)
    shutil.rmtree(pretraining_folder(home) / "run", ignore_errors=True)
    new = Run(
        preset=preset,
        recipe=asdict(resolved),
        size=recipe.served,
        weights=recipe.weights,
        seen=old.seen if old else 0,
        prepared=request.prepared.resolve() if request.prepared else None,
    )
    return write_run(home, new)


def _recipe(services: Services, preset: str, request: PretrainRequest) -> Recipe:
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset '{preset}'.", hint=f"The presets are {', '.join(PRESETS)}.")
    settings = services.settings
    architecture = settings.backbone if "backbone" in settings.model_fields_set else None
    weights = request.weights or settings.pretrain_weights
    changes = {"epochs": request.epochs, "architecture": architecture, "weights": weights}
    recipe = PRESETS[preset].with_changes(changes)
    return recipe.served_at(settings.image_size or recipe.served)


def _prepare(services: Services, current: Run, progress: StepProgress, should_stop: ShouldStop) -> Run:
    def report(done: int, total: int) -> None:
        if should_stop():
            raise StoppedError
        progress(f"preparing image {done} of {total}", PREPARED * done / max(total, 1))

    home = services.settings.home
    documents = services.catalog.count()
    if current.prepared is None:
        prepare_all(services, current.size, report)
    grouped = current.recipe["positives"] != "image"
    fetched = current.prepared is not None
    write_data(home, choose_images(services, _store(services, current), grouped=grouped, fetched=fetched))
    return write_run(home, current.model_copy(update={"step": "pretrain", "documents": documents}))


def _pretrain(
    services: Services,
    current: Run,
    request: PretrainRequest,
    progress: StepProgress,
    should_stop: ShouldStop,
    on_plan: Callable[[Run, RunData], None],
) -> PretrainingResult:
    data = read_data(services.settings.home)
    assert data is not None
    on_plan(current, data)
    return train(services, current, data, request, progress, should_stop)


def train(
    services: Services,
    current: Run,
    data: RunData,
    request: PretrainRequest,
    progress: StepProgress,
    should_stop: ShouldStop,
) -> PretrainingResult:
    """Train, in every process that takes part, and return the result. Raises `StoppedError` or `TrainingError`."""
    folder, store = pretraining_folder(services.settings.home), _store(services, current)
    images, rows = images_and_rows(store, data.ids)
    if len(rows) < len(data.ids):
        raise TrainingError(
            f"Only {len(rows)} of the {len(data.ids)} images of this run are stored.",
            hint="`taxonomist pretrain --fresh` starts again with the images that are stored.",
        )
    log.info("pre-training on %d images", len(rows))
    try:
        return pretrain(
            images,
            TypeAdapter(Recipe).validate_python(current.recipe),
            folder / "run",
            rows=rows,
            groups=group_numbers(data),
            probe=build_probe(data, store),
            device=request.device or services.settings.pretrain_device,
            devices=request.devices,
            nodes=request.nodes,
            precision=request.precision or services.settings.pretrain_precision,
            on_status=_StatusReporter(progress),
            should_stop=should_stop,
        )
    except Interrupted as error:
        if should_stop():
            raise StoppedError from error
        raise StoppedError(str(error)) from error  # other machines are missing


def _publish(services: Services, current: Run, result: PretrainingResult) -> Run:
    version = _published(services, result) or publish_pretrained(
        services.registry, result, current.size, _some_images(services, current)
    )
    changes = {
        "step": "adopt",
        "version": version.version,
        "seen": current.documents,
        "precision": result.summary.get("precision", ""),
        "early_stop": _early_stop(result.summary),
    }
    return write_run(services.settings.home, current.model_copy(update=changes))


def _some_images(services: Services, current: Run) -> NDArray[np.uint8]:
    """Return up to `_MEASURED` of the prepared images, which measure the distance of near-duplicates."""
    data = read_data(services.settings.home)
    images, rows = images_and_rows(_store(services, current), data.ids if data else [])
    return images[rows[:: len(rows) // _MEASURED + 1]]


def _published(services: Services, result: PretrainingResult) -> ModelVersion | None:
    """Return the version of this result where it is published already: the disk may have had no room for the run."""
    known = [(version, version.manifest.get("pretraining")) for version in services.registry.versions(BACKBONE)]
    same = ("finished_at", "data")
    return next((v for v, found in known if found and all(found.get(key) == result.summary[key] for key in same)), None)


def _early_stop(summary: Mapping[str, Any]) -> str:
    """Return a sentence for the outcome when the training has stopped early, else nothing."""
    if not summary.get("stopped_early"):
        return ""
    return (
        f"The training stopped early, after {summary['seen']:,} images seen, since its score on held-out products no "
        f"longer rose; the weights are those of its best moment, after {summary['best_seen']:,}."
    )


def _adopt(
    services: Services, current: Run, request: PretrainRequest, progress: StepProgress, should_stop: ShouldStop
) -> str:
    assert current.version is not None
    if not request.adopt:
        return (
            f"Backbone {current.version} is a candidate. Promote it by `taxonomist backbone promote {current.version}`."
        )
    return adopt(
        services,
        services.registry.get(BACKBONE, current.version),
        lambda step, share: progress(step, PRETRAINED + (1 - PRETRAINED) * share),
        should_stop,
    )


def write_report(services: Services, current: Run, folder: Path) -> None:
    """Write the report into the folder: the version, which the next stage reads, its curves and their plot."""
    assert current.version is not None
    version = services.registry.get(BACKBONE, current.version)
    summary = version.backbone_manifest.pretraining
    if summary is None:
        raise NotFoundError(f"Backbone {version.version} was not pre-trained here.")
    report = {
        FORMAT: 1,
        "version": version.version,
        "pretraining": summary.model_dump(mode="json", exclude_unset=True),
    }
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("curves.csv", "loss.png"):
            shutil.copyfile(version.path / name, folder / name)
        write_atomically(folder / REPORT, json.dumps(report, indent=2).encode())


class _StatusReporter:
    """Reports each status of the training, and logs one every `LOG_EVERY_S` seconds."""

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress
        self._logged_at = -LOG_EVERY_S

    def __call__(self, status: Status) -> None:
        self._progress(describe(status), _share(status))
        if time.monotonic() - self._logged_at > LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.info("%s", describe(status))


def _store(services: Services, current: Run) -> PreparedImageStore:
    if current.prepared is None:
        return prepared_image_store(services, current.size)
    return PreparedImageStore(current.prepared, current.size)


def describe(status: Status) -> str:
    """Return the status of a run as text."""
    score = "" if status.score is None else f", score {status.score:.3f}"
    return (
        f"epoch {status.epoch:.1f} of {status.epochs}, loss {status.loss:.3f}{score}, "
        f"{status.images_per_s:,.0f} images/s, {_duration(status.seconds_left)} left"
    )


def _share(status: Status) -> float:
    return PREPARED + (PRETRAINED - PREPARED) * status.step / max(status.steps, 1)


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes % 60:02d} min" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"
