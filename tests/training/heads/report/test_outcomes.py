"""The outcomes of the test images come back as they were, and a file that is not a version's is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.promotion.champion import Predictions
from taxonomist.training.heads.report.outcomes import (
    OUTCOMES_FILE,
    ImageOutcome,
    Outcomes,
    outcomes_record,
    read_outcomes,
)
from taxonomist.training.heads.report.version_files import write_data

TREE = Tree("media", "image", "taxonomy", (("Öl",), ("Öl", "a"), ("Öl", "b"), ("c",)))
PATHS: tuple[TaxonomyPath, ...] = (("Öl", "b"), ("c",), ("Öl", "a"))
PROBABILITIES = np.array([[0.8, 0.2, 0.6, 0.2], [0.3, 0.2, 0.1, 0.7], [1.0, 1.0, 0.0, 0.0]])


def publish(folder: Path, text: str | None = None, most: int = 10) -> ModelVersion:
    examples = [
        Example("3", {"media": (("Öl", "a"), ("c",))}),
        Example("2", {}),
        Example("1", {"media": (("Öl",),)}),
    ]
    with np.errstate(divide="ignore"):
        predicted = {"media": Predictions(PATHS, TREE.paths, np.log(PROBABILITIES))}
    registry = FolderRegistry(folder / "models")
    with registry.stage("project-4") as staged:
        write_data(staged / OUTCOMES_FILE, outcomes_record([TREE], examples, predicted, most))
        if text is not None:
            (staged / OUTCOMES_FILE).write_text(text)
        manifest = {"kind": "head", "backbone": "v1", "trees": [TREE.to_json()], "calibration": {}}
        return registry.publish("project-4", staged, manifest)


def test_outcomes_come_back(tmp_path: Path) -> None:
    first = ImageOutcome("1", (("Öl",),), ("Öl", "a"), (1.0, 1.0))
    third = ImageOutcome("3", (("Öl", "a"), ("c",)), ("Öl", "b"), (0.8, 0.6))
    assert read_outcomes(publish(tmp_path)) == {"media": Outcomes(2, (first, third))}
    assert read_outcomes(publish(tmp_path, most=1)) == {"media": Outcomes(2, (first,))}


@pytest.mark.parametrize(
    "outcome",
    [
        {"labels": [4], "likeliest": 0, "probabilities": [0.5]},
        {"labels": [-1], "likeliest": 0, "probabilities": [0.5]},
        {"labels": [0], "likeliest": 1, "probabilities": [0.5]},
        {"labels": [0], "likeliest": 0, "probabilities": [1.5]},
        {"labels": [0]},
    ],
)
def test_a_file_that_is_not_the_versions_is_refused(tmp_path: Path, outcome: object) -> None:
    text = json.dumps({"format": 1, "tested": {"media": 1}, "images": [{"id": "1", "controls": {"media": outcome}}]})
    for damaged in (text, text[:-3]):
        with pytest.raises(DamagedError, match=r"outcomes\.json"):
            read_outcomes(publish(tmp_path, damaged))
