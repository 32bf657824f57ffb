"""What became of each test image of a version, kept with it: people see which images its figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taxonomist.storage.formats import check_format
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.promotion.champion import PredictionsByControl

OUTCOMES_FILE = "outcomes.json"
MOST_OUTCOMES = 20_000
"""Test images that a version keeps. Of more, those with the lowest ids are as good as drawn at random."""
_DIGITS = 5

Node = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ImageOutcome:
    """A test image, its labels for a control, and the likeliest path with the calibrated probability of each level.

    The labels are those that the version is scored on: as deep as its training knows the nodes. `likeliest` is () where
    the head knows no node.
    """

    image_id: str
    labels: tuple[TaxonomyPath, ...]
    likeliest: TaxonomyPath
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a control, in the order of the image ids: those of `tested` test images, or of a part of them."""

    tested: int
    images: tuple[ImageOutcome, ...]


class _Outcome(BaseModel):
    """Nodes are numbers in the tree of the manifest."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[Node, ...]
    likeliest: Node | None
    probabilities: tuple[Probability, ...]


class _Image(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    controls: Mapping[str, _Outcome]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True)

    format: int = 1
    tested: Mapping[str, Node]
    images: Annotated[tuple[_Image, ...], Field(max_length=MOST_OUTCOMES)]


def outcomes_record(
    trees: Sequence[Tree], test: Sequence[Example], predicted: PredictionsByControl, most: int = MOST_OUTCOMES
) -> dict[str, Any]:
    """Return JSON-ready values of the outcomes of the test images, which are predicted in this order; of at most so
    many. `read_outcomes` reads them."""
    rows: dict[str, dict[str, Any]] = {}
    tested = {}
    for tree in trees:
        labelled = [row for row, example in enumerate(test) if example.labels.get(tree.control)]
        tested[tree.control] = len(labelled)
        if (predictions := predicted.get(tree.control)) is None:
            continue
        columns = {path: column for column, path in enumerate(predictions.nodes)}
        for row in labelled:
            path = predictions.paths[row]
            scores = predictions.log_probabilities[row, [columns[node] for node in prefixes(path)]]
            rows.setdefault(test[row].id, {})[tree.control] = {
                "labels": [tree.index[label] for label in test[row].labels[tree.control]],
                "likeliest": tree.index.get(path),
                "probabilities": np.minimum(np.exp(scores.astype(np.float64)), 1).round(_DIGITS).tolist(),
            }
    return {"tested": tested, "images": [{"id": id, "controls": rows[id]} for id in sorted(rows)[:most]]}


def read_outcomes(version: ModelVersion) -> dict[str, Outcomes] | None:
    """Return the outcomes of a version's test images, by control; None for a version of an earlier release.

    Raises `DamagedError` for a file that is not that of the version.
    """
    path = version.path / OUTCOMES_FILE
    if OUTCOMES_FILE not in version.files:
        return None
    trees = version.head_manifest.trees_by_control
    found: dict[str, list[ImageOutcome]] = {control: [] for control in trees}
    try:
        file = _File.model_validate_json(path.read_bytes())
        check_format(path, file.format, newest=1)
        for image in file.images:
            for control, outcome in image.controls.items():
                nodes = trees[control].paths
                likeliest = () if outcome.likeliest is None else nodes[outcome.likeliest]
                if len(likeliest) != len(outcome.probabilities):
                    raise ValueError(f"{image.id} has a probability for another number of levels")
                found[control].append(
                    ImageOutcome(
                        image.id, tuple(nodes[node] for node in outcome.labels), likeliest, outcome.probabilities
                    )
                )
    except (OSError, ValueError, KeyError, IndexError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DamagedError(f"The outcomes {path} cannot be read: {first}", hint="Train again.") from error
    return {control: Outcomes(file.tested.get(control, 0), tuple(images)) for control, images in found.items()}
