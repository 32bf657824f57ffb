"""Why an image has no suggestion: in a sentence for annotators, and with figures for those who know the model."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.inference.serving_model import Assessment, ServingModel
from taxonomist.taxonomy.suggestion import suggest, why_none
from taxonomist.taxonomy.tree import Tree


class Reason(StrEnum):
    """Why nothing is suggested, in words for annotators."""

    CONTROL_SAMPLE = "Control sample: please label without help."
    NO_LABELS = "No suggestion yet: no image of this project has an accepted label."
    NOT_SURE = "No suggestion: the model is not sure about this image."
    NOT_LEARNED = "No suggestion yet: the model has not learned this field."
    NOT_ALLOWED = "No suggestion: what the model would suggest is no choice any more."
    PAUSED = "No suggestion: too many were wrong lately, so the model suggests less until it has learned more."
    NO_AGREEMENT = "No suggestion yet: the look-alikes have different labels."
    NO_IMAGE = "No suggestion: the image cannot be read at the moment. Label it as you see it."
    LATE_IMAGE = "No suggestion: the image takes long to read. Reload the page later."
    NO_TAXONOMY = "No suggestion: the taxonomy of this project cannot be read at the moment."


@dataclass(frozen=True)
class NoSuggestion:
    """Why a control has no suggestion. `detail` names versions, paths and probabilities."""

    reason: Reason
    detail: str


def explain_missing(
    services: Services,
    predictor: Predictor,
    project: str,
    trees: Sequence[Tree],
    vectors: NDArray[np.float32],
    suggested: Sequence[Container[str]],
    names: Sequence[str] = (),
) -> list[dict[str, NoSuggestion]]:
    """Return, for each of the embeddings (n, d), why controls have no suggestion; those in `suggested` are left out.

    `names` are those of `Predictor.suggest`. Without a model, the look-alikes explain it.
    """
    missing = [[tree for tree in trees if tree.control not in found] for found in suggested]
    explained: list[dict[str, NoSuggestion]] = [{} for _ in suggested]
    rows = [row for row, without in enumerate(missing) if without]
    if not rows:
        return explained
    model = predictor.model(project)
    chosen = [names[row] for row in rows] if names else []
    if model is None:
        for place, row in enumerate(rows):
            why = _before_a_model(services, predictor, project, vectors[row], chosen[place] if chosen else None)
            explained[row] = {tree.control: why for tree in missing[row]}
        return explained
    version = model_version_name(model.version)
    floors = services.suggestions.floors(project, version)
    for row, assessments in zip(rows, predictor.assessments(project, vectors[rows], chosen), strict=True):
        for tree in missing[row]:
            control = next((name for name in (tree.control, *tree.former) if name in model.trees), None)
            if control is None:
                detail = f"{version} has not learned the control {tree.control}; the next version does."
                explained[row][tree.control] = NoSuggestion(Reason.NOT_LEARNED, detail)
            else:
                explained[row][tree.control] = _why(model, control, assessments[control], floors.get(control))
    return explained


def _why(model: ServingModel, control: str, found: Assessment, floor: float | None) -> NoSuggestion:
    """Return why a version suggests nothing for a control; `floor` is that of a promise that it broke."""
    version, tree = model_version_name(model.version), model.trees[control]
    if floor is not None and math.isinf(floor):
        detail = f"The suggestions of {version} were not right often enough, so it makes none until the next version."
        return NoSuggestion(Reason.PAUSED, detail)
    if suggest(tree, found.probabilities, found.calibration):
        return NoSuggestion(Reason.NOT_ALLOWED, f"What {version} suggests is not allowed by today's labelling config.")
    detail = why_none(tree, found.probabilities, found.calibration)
    return NoSuggestion(Reason.NOT_SURE if floor is None else Reason.PAUSED, detail)


def _before_a_model(
    services: Services, predictor: Predictor, project: str, vector: NDArray[np.float32], name: str | None
) -> NoSuggestion:
    backbone = predictor.backbone(project)
    if backbone is not None and predictor.look_alikes.nearest(project, vector, backbone, exclude=name):
        detail = "There is no model yet, and the labelled look-alikes do not agree on a path."
        return NoSuggestion(Reason.NO_AGREEMENT, detail)
    is_labelled = services.catalog.count(project, labelled=True)
    why = "the labelled images are not embedded yet" if is_labelled else "no image has an accepted label"
    return NoSuggestion(Reason.NO_LABELS, f"There is no model yet, and {why}.")
