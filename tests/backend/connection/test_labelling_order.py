"""The order of labelling is the score of the predictions; Label Studio takes the lowest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.fill_predictions import fill
from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.prediction.labelling_order import LAST, drawn_by_order, has_order
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.storage.catalog import image_id
from taxonomist.storage.catalog.documents import ImageDocument
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG, PATHS, image_bytes

OPEN = 8


class Ordered:
    """Project 7, which has an order, with eight open tasks; the image of the ninth is missing."""

    def __init__(self, services: Services, label_studio: StandIn, folder: Path) -> None:
        self.services, self.label_studio = services, label_studio
        for id in range(1, OPEN + 2):
            if id <= OPEN:
                (folder / f"open{id}.jpg").write_bytes(image_bytes(PATHS[id % 2], 900 + id))
            label_studio.add_task(id, str(folder / f"open{id}.jpg"))

    def push(self) -> str:
        return push(self.services, "7", lambda step, share: None)

    def scores(self) -> dict[int, float]:
        """Return the score of each task's prediction; each has one."""
        found = {prediction["task"]: prediction["score"] for prediction in self.label_studio.predictions.values()}
        assert len(found) == len(self.label_studio.predictions)
        return found

    def label(self, task: int) -> None:
        self.label_studio.annotate(task, task, 1, list(PATHS[0]))

        def change(document: ImageDocument) -> ImageDocument:
            labels = document.projects["7"].model_copy(update={"accepted": {"colour": [list(PATHS[0])]}})
            return document.in_project("7", labels)

        self.services.catalog.update_many({self.image(task): change})

    def image(self, task: int) -> str:
        return image_id(self.label_studio.tasks[task]["data"]["image"])


@pytest.fixture
def ordered(world: Services, tmp_path: Path) -> Iterator[Ordered]:
    embed_all(world, "7", lambda step, share: None)
    with StandIn(7) as label_studio:
        choices = ProjectChoices(order="diverse")
        world.projects.update("7", label_studio_url=label_studio.url, api_key=SecretStr("t"), settings=choices)
        yield Ordered(world, label_studio, tmp_path / "catalogue" / "images")


def test_each_open_task_has_a_place_and_what_is_not_placed_comes_last(ordered: Ordered) -> None:
    ordered.push()
    assert set(ordered.scores().values()) == {LAST}  # the images are embedded by this push
    assert len(ordered.scores()) == OPEN + 1  # Label Studio offers no task without a prediction
    ids = set(ordered.label_studio.predictions)
    ordered.push()
    scores = ordered.scores()
    assert set(ordered.label_studio.predictions) == ids  # changed in place
    assert scores.pop(OPEN + 1) == LAST
    assert len(set(scores.values())) == OPEN
    assert all(0 < score < LAST for score in scores.values())
    regions = [region for found in ordered.label_studio.predictions.values() for region in found["result"]]
    assert regions
    assert all(region["score"] > 0.5 for region in regions)  # the probability


def test_an_answer_has_the_place_too(ordered: Ordered) -> None:
    ordered.push()
    ordered.push()
    body = {"tasks": list(ordered.label_studio.tasks.values()), "label_config": CONFIG, "project": "7"}
    answers = UseCases(ordered.services).answer(parse_predict(body)).predictions
    assert {task: answer["score"] for task, answer in zip(ordered.label_studio.tasks, answers, strict=True)} == (
        ordered.scores()
    )


def test_a_task_that_is_filled_without_a_suggestion_is_offered(ordered: Ordered) -> None:
    ordered.push()
    ordered.label_studio.predictions.clear()
    ordered.services.unfilled.add("7", ["1"], asked=False)
    hidden = CONFIG.replace('value="Red"', 'value="Rose"').replace('value="Warm"', 'value="Hot"')
    ordered.label_studio.label_config = hidden.replace('value="Cold"', 'value="Cool"')
    fill(ordered.services, "7", lambda step, share: None)
    assert [(found["task"], found["result"]) for found in ordered.label_studio.predictions.values()] == [(1, [])]


def test_how_each_labelled_image_was_drawn_is_stored_and_never_changes(ordered: Ordered) -> None:
    services = ordered.services
    labelled = [document.id for document in services.catalog.documents("7", labelled=True)]
    ordered.push()
    ordered.push()
    assert set(services.journal.draws.drawn("7", labelled).values()) == {"before"}
    for task, share in ((1, 1.0), (2, 1e-9)):  # labelled since
        services.settings = services.settings.model_copy(update={"random_share": share})
        ordered.label(task)
        ordered.push()
    assert services.journal.draws.drawn("7", map(ordered.image, (1, 2, 3))) == {
        ordered.image(1): "random",
        ordered.image(2): "order",
    }


def test_what_is_labelled_without_an_order_counts_as_random(ordered: Ordered) -> None:
    services, images = ordered.services, [ordered.image(1), ordered.image(2)]
    services.settings = services.settings.model_copy(update={"random_share": 1e-9})
    ordered.push()
    ordered.push()
    ordered.label(1)
    documents = list(services.catalog.documents("7", labelled=True))
    assert drawn_by_order(services, "7", documents) == {images[0]}
    services.projects.update("7", settings=ProjectChoices())
    ordered.push()
    ordered.label(2)
    services.projects.update("7", settings=ProjectChoices(order="diverse"))
    documents = list(services.catalog.documents("7", labelled=True))
    assert drawn_by_order(services, "7", documents) == {images[0]}
    assert services.journal.draws.drawn("7", images) == {images[0]: "order", images[1]: "before"}


@pytest.mark.parametrize("ends_with", ["push", "training"])
def test_what_an_order_has_chosen_is_stored_when_it_ends(ordered: Ordered, ends_with: str) -> None:
    services, image = ordered.services, ordered.image(1)
    services.settings = services.settings.model_copy(update={"random_share": 1e-9})
    ordered.push()
    ordered.push()
    ordered.label(1)
    services.projects.update("7", settings=ProjectChoices())
    if ends_with == "push":
        ordered.push()
    assert image in drawn_by_order(services, "7", list(services.catalog.documents("7", labelled=True)))
    assert not services.journal.draws.has_places("7")


def test_new_images_are_placed(ordered: Ordered) -> None:
    ordered.services.projects.update("7", ml_backend=1)
    embed_all(ordered.services, "7", lambda step, share: None)
    assert [job.kind for job in ordered.services.jobs.waiting()].count(JobKind.PUSH) == 1


def test_without_an_order_the_score_is_the_probability(ordered: Ordered) -> None:
    ordered.services.projects.update("7", settings=ProjectChoices())
    assert not has_order(ordered.services, "7")
    ordered.push()
    for found in ordered.label_studio.predictions.values():
        assert found["score"] == found["result"][0]["score"]
    assert len(ordered.label_studio.predictions) < OPEN + 1
    assert ordered.services.journal.draws.drawn("7", [ordered.image(1)]) == {}
