"""The whole job: prepare, pre-train, publish, adopt. Killed at any moment, the next call goes on with the step.

It imports torch; only the commands that pre-train and the child process of the worker import it.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from taxonomist.backend.pretraining.adopt import REPORT, adopt
from taxonomist.backend.pretraining.dataset import Chosen, choose, groups_of, pictures_of, probe_of
from taxonomist.backend.pretraining.prepared_images import picture_store, prepare_all
from taxonomist.backend.pretraining.start_weights import with_start
from taxonomist.backend.pretraining.state import (
    Asked,
    Run,
    ShouldStop,
    StoppedError,
    folder_of,
    read_run,
    read_state,
    write_run,
    write_state,
)
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT
from taxonomist.storage.prepared_images import PreparedImageStore
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

Progress = Callable[[str, float], None]
PREPARED, PRETRAINED = 0.1, 0.8  # shares of the whole job's progress at which these steps end
LOG_EVERY_S = 60.0


def run(
    services: Services,
    asked: Asked,
    progress: Progress,
    should_stop: ShouldStop,
    on_plan: Callable[[Run, Chosen], None] = lambda current, chosen: None,
) -> str:
    """Do all steps that are left; returns what came of it in one line. Call it inside `only_one`.

    `on_plan` is told what is about to be trained on. Raises `StoppedError` when `should_stop` said so, `ConfigError`
    when the unfinished run is another one than is asked for, `TrainingError` when the pictures are too few or the
    training leads nowhere.
    """
    home = services.settings.home
    current = _begin(services, asked)
    try:
        if current.step == "prepare":
            current = _prepare(services, current, progress, should_stop)
        if current.step == "pretrain":
            current = _publish(services, current, _pretrain(services, current, asked, progress, should_stop, on_plan))
        if asked.out is not None:
            write_report(services, current, asked.out)
        outcome = _adopt(services, current, asked, progress, should_stop)
    except (TrainingError, NotFoundError, DamagedError) as error:  # to go on from there would end there again
        write_run(home, current.model_copy(update={"step": "failed", "outcome": str(error)}))
        raise
    write_run(home, current.model_copy(update={"step": "done", "outcome": outcome}))
    progress("done", 1.0)
    return outcome


def _begin(services: Services, asked: Asked) -> Run:
    home = services.settings.home
    old = read_run(home)
    if old is not None and old.unfinished and asked.resume is not False:
        unlike = (
            asked.preset not in {None, old.preset},
            asked.epochs not in {None, old.recipe["epochs"]},
            asked.weights not in {None, old.weights},
        )
        if any(unlike):
            raise ConfigError(
                f"A pre-training by preset {old.preset} over {old.recipe['epochs']} epochs from the weights "
                f"{old.weights} is not finished.",
                hint="--resume alone goes on with it, --fresh gives it up.",
            )
        log.info("goes on with the pre-training by preset %s: %s", old.preset, old.step)
        return old
    if asked.resume:
        raise NotFoundError("There is no unfinished pre-training.", hint="Leave --resume out to begin one.")
    preset = asked.preset or services.settings.pretrain_preset
    recipe = _recipe(services, preset, asked)
    started = with_start(services, recipe)
    shutil.rmtree(folder_of(home) / "run", ignore_errors=True)
    new = Run(
        preset=preset,
        recipe=asdict(started),
        size=recipe.served,
        weights=recipe.weights,
        seen=old.seen if old else 0,
        pictures=asked.pictures.resolve() if asked.pictures else None,
    )
    return write_run(home, new)


def _recipe(services: Services, preset: str, asked: Asked) -> Recipe:
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset '{preset}'.", hint=f"There are: {', '.join(PRESETS)}.")
    settings = services.settings
    architecture = settings.backbone if "backbone" in settings.model_fields_set else None
    weights = asked.weights or settings.pretrain_weights
    changes = {"epochs": asked.epochs, "architecture": architecture, "weights": weights}
    recipe = PRESETS[preset].with_changes(changes)
    return recipe.served_at(settings.image_size or recipe.served)


def _prepare(services: Services, current: Run, progress: Progress, should_stop: ShouldStop) -> Run:
    def note(done: int, total: int) -> None:
        if should_stop():
            raise StoppedError
        progress(f"preparing picture {done} of {total}", PREPARED * done / max(total, 1))

    home = services.settings.home
    documents = services.catalog.count()
    if current.pictures is None:
        prepare_all(services, current.size, note)
    grouped = current.recipe["positives"] == "group"
    chosen = choose(services, _store(services, current), grouped=grouped, fetched=current.pictures is not None)
    write_state(folder_of(home) / "pictures.json", chosen)
    return write_run(home, current.model_copy(update={"step": "pretrain", "documents": documents}))


def _pretrain(
    services: Services,
    current: Run,
    asked: Asked,
    progress: Progress,
    should_stop: ShouldStop,
    on_plan: Callable[[Run, Chosen], None],
) -> PretrainingResult:
    chosen = read_state(folder_of(services.settings.home) / "pictures.json", Chosen)
    assert chosen is not None
    on_plan(current, chosen)
    return train(services, current, chosen, asked, progress, should_stop)


def train(
    services: Services, current: Run, chosen: Chosen, asked: Asked, progress: Progress, should_stop: ShouldStop
) -> PretrainingResult:
    """The training itself, in every process that takes part. Raises `StoppedError` or `TrainingError`."""
    folder, store = folder_of(services.settings.home), _store(services, current)
    pictures, rows = pictures_of(store, chosen.ids)
    if len(rows) < len(chosen.ids):
        raise TrainingError(
            f"Only {len(rows)} of the {len(chosen.ids)} pictures are here.", hint="--fresh begins with what there is."
        )
    log.info("pre-trains on %d pictures", len(rows))
    noted = _Noted(progress)
    try:
        return pretrain(
            pictures,
            TypeAdapter(Recipe).validate_python(current.recipe),
            folder / "run",
            rows=rows,
            groups=groups_of(chosen),
            probe=probe_of(chosen, store),
            device=asked.device or services.settings.pretrain_device,
            devices=asked.devices,
            nodes=asked.nodes,
            on_status=noted,
            should_stop=should_stop,
        )
    except Interrupted as error:
        if should_stop():
            raise StoppedError from error
        raise StoppedError(str(error)) from error  # it waits for other machines


def _publish(services: Services, current: Run, done: PretrainingResult) -> Run:
    version = publish_pretrained(services.registry, done, current.size).version
    new = {"step": "adopt", "version": version, "seen": current.documents}
    return write_run(services.settings.home, current.model_copy(update=new))


def _adopt(services: Services, current: Run, asked: Asked, progress: Progress, should_stop: ShouldStop) -> str:
    assert current.version is not None
    if not asked.adopt:
        return f"Backbone {current.version} is a candidate: taxonomist backbone promote {current.version}"
    return adopt(
        services,
        services.registry.get(BACKBONE, current.version),
        lambda step, share: progress(step, PRETRAINED + (1 - PRETRAINED) * share),
        should_stop,
    )


def write_report(services: Services, current: Run, folder: Path) -> None:
    """What the next stage reads, and what a person looks at: the version, its curves and their plot."""
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


class _Noted:
    """Shows where the training stands, and logs it now and then, for logs that nobody watches."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._logged = -LOG_EVERY_S

    def __call__(self, status: Status) -> None:
        self._progress(describe(status), _share(status))
        if time.monotonic() - self._logged > LOG_EVERY_S:
            self._logged = time.monotonic()
            log.info("%s", describe(status))


def _store(services: Services, current: Run) -> PreparedImageStore:
    if current.pictures is None:
        return picture_store(services, current.size)
    return PreparedImageStore(current.pictures, current.size)


def describe(status: Status) -> str:
    """Where a run stands, for people."""
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
