"""What the promise changes in predictions: blind tasks, and thresholds that have risen."""

from __future__ import annotations

import math
from typing import Any

import pytest

from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import StorageError
from taxonomist.taxonomy.monitoring import is_blind
from tests.small_world import CONFIG, PATHS, image_bytes

V1 = "taxonomist-v1"


def predict(services: Services, tasks: int = 4, **fields: Any) -> list[dict[str, Any]]:
    """Return the predictions for new tasks with an image of each colour, and store what they suggest."""
    folder = services.projects.get("7").image_folders[0].folders[0]
    for number in range(1, tasks + 1):
        (folder / f"new{number}.jpg").write_bytes(image_bytes(PATHS[number % 4], seed=number))
    asked = [{"id": number, "data": {"image": str(folder / f"new{number}.jpg")}} for number in range(1, tasks + 1)]
    body = {"tasks": asked, "project": "7", "label_config": CONFIG, **fields}
    predictions = Predictor(services).predict_named(parse_predict(body))
    services.suggestions.add("7", predictions.suggested)
    return predictions.answers


def with_share(services: Services, share: float) -> Services:
    return Services(services.settings.model_copy(update={"blind_share": share}))


def test_blind_tasks_get_no_suggestion_and_it_is_kept(trained: Services) -> None:
    shown = predict(trained)
    services = with_share(trained, 0.5)
    blind = [is_blind("7", str(number), 0.5) for number in range(1, 5)]
    assert {True, False} == set(blind)
    answers = predict(services)
    assert [not answer["result"] for answer in answers] == blind
    assert [answer["score"] for answer in answers] == [answer["score"] for answer in shown]
    rows = services.suggestions.of_tasks("7", ["1", "2", "3", "4"])
    assert [row.blind for row in rows] == blind


def test_a_suggestion_that_is_shown_later_is_not_blind(trained: Services) -> None:
    predict(with_share(trained, 1.0))
    predict(trained)
    assert not any(row.blind for row in trained.suggestions.of_tasks("7", ["1", "2", "3", "4"]))


def test_look_alikes_leave_no_task_blind(world: Services) -> None:
    from taxonomist.backend.retraining.embedding_job import embed_all

    embed_all(world, "7", lambda step, share: None)
    assert all(answer["result"] for answer in predict(with_share(world, 1.0)))


def test_a_floor_stops_what_is_below_it(trained: Services) -> None:
    scores = sorted(answer["score"] for answer in predict(trained))
    between = (scores[0] + scores[-1]) / 2
    trained.suggestions.keep_floors("7", V1, {"colour": between})
    regions = [region for answer in predict(trained) for region in answer["result"]]
    assert regions
    assert all(region["score"] >= between for region in regions)
    trained.suggestions.keep_floors("7", V1, {"colour": math.inf})
    assert not any(answer["result"] for answer in predict(trained))
    trained.suggestions.keep_floors("7", "taxonomist-v2", {"colour": math.inf})
    trained.suggestions.keep_floors("7", V1, {})
    assert all(answer["result"] for answer in predict(trained))


def test_floors_that_cannot_be_read_stay_those_of_before(
    trained: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained.suggestions.keep_floors("7", V1, {"colour": math.inf})
    predictor = Predictor(trained)
    before = predictor.model("7")

    def fail(*_: object) -> dict[str, float]:
        raise StorageError("the disk is away")

    monkeypatch.setattr(trained.suggestions, "floors", fail)
    after = predictor.model("7")
    assert before is not None
    assert after is not None
    assert after.calibrations == before.calibrations
    assert "the disk is away" in caplog.text
