"""The served version goes on after the taxonomy changed: unchanged nodes at once, the others by their new names."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from taxonomist.backend.labelling.taxonomy_changes.apply_changes import Rename, apply_certain, map_labels
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.backend.worker.worker import Worker
from taxonomist.inference.serving_model import ServingModel
from taxonomist.taxonomy.suggestion import Suggestion
from tests.backend.labelling.taxonomy_changes.conftest import SCARLET, SHADE, WARMTH, accepted
from tests.small_world import CONFIG

Paths = Counter[tuple[str, ...]]


def client_of(services: Services) -> FlaskClient:
    client: FlaskClient = create_app(services.settings, services).test_client()
    return client


def change_by_webhook(services: Services, config: str) -> None:
    """Change the labelling config as Label Studio announces it, and let the worker decide the labels."""
    body = {"action": "PROJECT_UPDATED", "project": {"id": 7, "label_config": config}}
    assert client_of(services).post("/webhook", json=body).status_code == 201
    Worker(services).pulse()


def suggested(services: Services, config: str) -> Paths:
    """Return the paths that /predict suggests for all images, by control and path."""
    uris = [document.projects["7"].uri for document in services.catalog.documents("7")]
    tasks = [{"id": number, "data": {"image": uri}} for number, uri in enumerate(uris)]
    body = {"tasks": tasks, "label_config": config, "project": "7.1795531934"}
    answers = client_of(services).post("/predict", json=body).get_json()["results"]
    regions: list[dict[str, Any]] = [region for answer in answers for region in answer["result"]]
    return Counter((region["from_name"], *region["value"]["taxonomy"][0]) for region in regions)


def renamed(paths: Paths, **names: str) -> Paths:
    return Counter({tuple(names.get(name, name) for name in path): count for path, count in paths.items()})


@pytest.mark.parametrize(
    ("config", "names"),
    [(WARMTH, {"Warm": "Warmth"}), (SHADE, {"colour": "shade"}), (SCARLET, {"Red": "Scarlet"})],
)
def test_labels_and_suggestions_are_there_after_a_rename(trained: Services, config: str, names: dict[str, str]) -> None:
    before, labels = suggested(trained, CONFIG), accepted(trained)
    assert len(before) == 4
    change_by_webhook(trained, config)
    untouched = Counter({path: count for path, count in before.items() if not {*path} & {*names}})
    assert untouched <= suggested(trained, config)
    if config is SCARLET:
        map_labels(trained, "7", [Rename("Warm / Red", "Warm / Scarlet")])
    else:
        apply_certain(trained, "7")
    assert suggested(trained, config) == renamed(before, **names)
    assert accepted(trained) == {tuple(names.get(name, name) for name in path): count for path, count in labels.items()}


@pytest.mark.parametrize("config", [WARMTH, SHADE])
def test_the_served_version_is_compared_under_the_new_names(trained: Services, config: str) -> None:
    change_by_webhook(trained, config)
    apply_certain(trained, "7")
    train(trained, "7", lambda step, share: None)
    (first, second) = trained.registry.versions("project-7")
    assert first.version == "v1"
    promotion = second.head_manifest.promotion
    assert promotion is not None
    assert "hierarchical F1 1.000 against 1.000 of v1" in promotion.reason


def test_a_shortlist_with_a_node_that_is_gone_waits_for_the_decision(
    trained: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (("Warm", "Red"), ("Cold", "Blue"))
    listed = {"colour": Suggestion(("Cold",), 0.9, 1, paths)}
    monkeypatch.setattr(ServingModel, "suggestions", lambda model, vectors, others: [listed for _ in vectors])
    vector = np.ones((1, 48), np.float32)
    (found,) = Predictor(trained).suggest("7", vector)
    assert found["colour"].shortlist == paths
    change_by_webhook(trained, SCARLET)
    (found,) = Predictor(trained).suggest("7", vector)
    assert (found["colour"].path, found["colour"].shortlist) == (("Cold",), ())
    map_labels(trained, "7", [Rename("Warm / Red", "Warm / Scarlet")])
    (found,) = Predictor(trained).suggest("7", vector)
    assert found["colour"].shortlist == (("Warm", "Scarlet"), ("Cold", "Blue"))


def test_look_alikes_propose_a_new_node(trained: Services) -> None:
    trained.projects.update("7", label_config=CONFIG.replace('"Green"/>', '"Green"/><Choice value="Lime"/>'))
    look_alikes = [LookAlike(f"{number}", "", {"colour": (("Cold", "Lime"),)}, 0.9) for number in range(3)]
    assert Predictor(trained).new_nodes("7", look_alikes) == {"colour": ("Cold", "Lime")}
