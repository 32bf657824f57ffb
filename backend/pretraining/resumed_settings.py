"""A pre-training that is resumed keeps its settings; what today's settings would do otherwise is reported."""

from __future__ import annotations

from collections.abc import Iterator

from taxonomist.backend.pretraining.state import Run
from taxonomist.backend.settings import Settings
from taxonomist.training.pretraining.recipe import PRESETS


def differences(settings: Settings, run: Run) -> Iterator[str]:
    """Yield, for each setting that was changed since the run began, what the run has and what the setting says.

    The number format is reported by the training itself, which chooses it.
    """
    given = settings.model_fields_set
    if "pretrain_preset" in given and settings.pretrain_preset != run.preset:
        yield _difference("the preset", run.preset, settings.pretrain_preset, "TAXONOMIST_PRETRAIN_PRESET")
    default = PRESETS[run.preset].served if run.preset in PRESETS else run.size
    if (size := settings.image_size or default) != run.size:
        yield _difference("images of a side in pixels of", run.size, size, "TAXONOMIST_IMAGE_SIZE")
    if "backbone" in given and settings.backbone != run.recipe["architecture"]:
        yield _difference("the architecture", run.recipe["architecture"], settings.backbone, "TAXONOMIST_BACKBONE")
    if settings.pretrain_weights is not None and settings.pretrain_weights != run.weights:
        yield _difference("the start weights", run.weights, settings.pretrain_weights, "TAXONOMIST_PRETRAIN_WEIGHTS")


def _difference(what: str, runs: object, todays: object, variable: str) -> str:
    return f"{what} {runs}, not {todays} as {variable} says now"
