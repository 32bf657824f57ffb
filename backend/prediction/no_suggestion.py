"""Why an image has no suggestion, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services
from taxonomist.inference.serving_model import ServingModel
from taxonomist.taxonomy.suggestion import Suggestion, suggest, why_none
from taxonomist.taxonomy.tree import Tree


def reasons_without(
    services: Services,
    project: str,
    model: ServingModel | None,
    vectors: NDArray[np.float32],
    suggestions: Sequence[Mapping[str, Suggestion]],
) -> list[dict[str, str]]:
    """Return, for each of the embeddings (n, d), the controls without a suggestion and the reason of each.

    `suggestions` are those of the `model` for these images alone; without a model, those of their look-alikes.
    """
    trees = services.label_config(project).trees
    missing = [[tree for tree in trees if tree.control not in found] for found in suggestions]
    rows = [row for row, without in enumerate(missing) if without]
    if not rows:
        return [{} for _ in suggestions]
    if model is None:
        reason = _before_a_model(services, project)
        return [{tree.control: reason for tree in without} for without in missing]
    version = model_version_name(model.version)
    floors = services.suggestions.floors(project, version)
    place = {row: number for number, row in enumerate(rows)}
    probabilities = model.probabilities(vectors[rows])

    def reason_of(tree: Tree, row: int) -> str:
        control = next((name for name in (tree.control, *tree.former) if name in model.trees), None)
        if control is None:
            return f"{version} has not learned the control {tree.control}; the next version does."
        if math.isinf(floors.get(control, 0.0)):
            return f"The suggestions of {version} were not right often enough, so it makes none until the next version."
        learned, found = model.trees[control], probabilities[control][place[row]]
        if suggest(learned, found, model.calibrations[control]):
            return f"What {version} suggests is not allowed by today's labelling config."
        return why_none(learned, found, model.calibrations[control])

    return [{tree.control: reason_of(tree, row) for tree in without} for row, without in enumerate(missing)]


def _before_a_model(services: Services, project: str) -> str:
    if services.catalog.count(project, labelled=True):
        return "There is no model yet, and the labelled look-alikes do not agree on a path."
    return "There is no model yet, and no image has an accepted label."
