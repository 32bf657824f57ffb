"""Several images in a task: each has its own labels, embedding and suggestions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.decisions import decide_all_dirty, update_labels
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.image_folders import image_folder
from taxonomist.backend.web.app import create_app
from taxonomist.storage.catalog.image_ids import image_id
from tests.small_world import PATHS, image_bytes, publish_backbone

CHOICES = """<Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
    <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice>"""
CONFIG = f"""<View>
  <View><Image name="img-left" value="$image1"/>
  <Taxonomy name="class-left" toName="img-left">{CHOICES}</Taxonomy></View>
  <View><Image name="img-right" value="$folder/$image2"/>
  <Taxonomy name="class-right" toName="img-right">{CHOICES}</Taxonomy></View>
</View>"""
DAY = "2026-01-05T10:00:00Z"
TASKS = 40


class World:
    """Project "7": tasks with two images of different colours."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.folder = services, folder
        publish_backbone(services)
        services.projects.update("7", label_config=CONFIG, image_folders=(image_folder(folder),))

    def task(self, number: int, left: tuple[str, ...], right: tuple[str, ...]) -> dict[str, Any]:
        """Return a new task, whose images are in the folder."""
        for side, path, seed in (("l", left, 2 * number), ("r", right, 2 * number + 1)):
            (self.folder / f"{side}{number}.jpg").write_bytes(image_bytes(path, seed))
        data = {
            "sku": f"p{number}",
            "image1": str(self.folder / f"l{number}.jpg"),
            "folder": str(self.folder),
            "image2": f"r{number}.jpg",
        }
        return {"id": number, "project": 7, "created_at": DAY, "updated_at": DAY, "data": data}

    def labels(self, name: str) -> dict[str, Any]:
        document = self.services.catalog.get(image_id(str(self.folder / name)))
        assert document is not None
        return document.projects["7"].accepted

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return what the server answers to Label Studio."""
        answer = create_app(self.services.settings, self.services).test_client().post(path, json=body)
        assert answer.status_code in {200, 201}, answer.get_data(as_text=True)
        return answer.get_json()

    def suggestions(self, *tasks: dict[str, Any]) -> list[dict[str, list[str]]]:
        answers = self.post("/predict", {"tasks": tasks, "label_config": CONFIG, "project": "7.1795531934"})
        found = [{part["from_name"]: part for part in answer["result"]} for answer in answers["results"]]
        assert all(parts[name]["to_name"] == f"img-{name[6:]}" for parts in found for name in parts)
        return [{name: part["value"]["taxonomy"][0] for name, part in parts.items()} for parts in found]


def annotation(id: int, person: int, left: tuple[str, ...], right: tuple[str, ...]) -> dict[str, Any]:
    result = [
        {
            "from_name": f"class-{side}",
            "to_name": f"img-{side}",
            "type": "taxonomy",
            "value": {"taxonomy": [list(path)]},
        }
        for side, path in (("left", left), ("right", right))
    ]
    return {"id": id, "completed_by": person, "created_at": DAY, "updated_at": DAY, "result": result}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    """40 labelled tasks: few, so a lower precision must do."""
    services = Services(settings.model_copy(update={"target_precision": 0.5, "product_field": "sku"}))
    folder = tmp_path / "images"
    folder.mkdir()
    world = World(services, folder)
    tasks = []
    for number in range(1, TASKS + 1):
        left, right = PATHS[number % 4], PATHS[(number + 1 + number // 4) % 4]
        annotations = [annotation(10 * number + person, person, left, right) for person in (1, 2)]
        tasks.append(world.task(number, left, right) | {"annotations": annotations})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    done = import_export(services, tmp_path / "export.json")
    assert (done.entries, done.images, done.accepted, done.left_out) == (TASKS, 2 * TASKS, 2 * TASKS, 0)
    return world


def test_each_image_has_the_labels_of_its_control(world: World) -> None:
    for number in range(1, TASKS + 1):
        left, right = PATHS[number % 4], PATHS[(number + 1 + number // 4) % 4]
        assert world.labels(f"l{number}.jpg") == {"class-left": [list(left)]}
        assert world.labels(f"r{number}.jpg") == {"class-right": [list(right)]}


def test_each_control_is_suggested_from_its_own_image(world: World) -> None:
    new = [world.task(100 + n, PATHS[n], PATHS[3 - n]) for n in range(4)]
    wanted = [{"class-left": list(PATHS[n]), "class-right": list(PATHS[3 - n])} for n in range(4)]
    embed_all(world.services, "7", lambda step, share: None)
    assert world.suggestions(*new) == wanted  # look-alikes vote
    train(world.services, "7", lambda step, share: None)
    assert world.suggestions(*new) == wanted


def test_an_image_that_is_missing_costs_its_own_control_only(world: World) -> None:
    train(world.services, "7", lambda step, share: None)
    task = world.task(100, PATHS[0], PATHS[1])
    for field, left in (("image1", {"class-right"}), ("image2", {"class-left"})):
        lacking = {**task, "data": {key: value for key, value in task["data"].items() if key != field}}
        (found,) = world.suggestions(lacking)
        assert found.keys() == left


def webhook(action: str, task: dict[str, Any], **fields: Any) -> dict[str, Any]:
    project = {"id": 7, "label_config": CONFIG, "created_at": DAY}
    return {"action": action, "project": project, "task": task, **fields}


def test_webhooks_label_each_image(world: World) -> None:
    task = world.task(100, PATHS[0], PATHS[1])
    for person in (1, 2):
        body = webhook("ANNOTATION_CREATED", task, annotation=annotation(900 + person, person, PATHS[0], PATHS[1]))
        body["annotation"]["task"] = 100
        assert world.post("/webhook", body)["new"] == 3 - person  # the task is new with the first
    decide_all_dirty(world.services, "7")
    assert world.labels("l100.jpg") == {"class-left": [list(PATHS[0])]}
    assert world.labels("r100.jpg") == {"class-right": [list(PATHS[1])]}
    deleted = {"action": "ANNOTATIONS_DELETED", "project": {"id": 7, "created_at": DAY}, "annotations": [{"id": 901}]}
    assert world.post("/webhook", deleted)["new"] == 1
    decide_all_dirty(world.services, "7")
    assert (world.labels("l100.jpg"), world.labels("r100.jpg")) == ({}, {})


def test_a_task_that_only_has_the_second_image_labels_it(world: World, tmp_path: Path) -> None:
    task = world.task(100, PATHS[0], PATHS[1])
    del task["data"]["image1"]
    annotations = [annotation(900 + person, person, PATHS[0], PATHS[1]) for person in (1, 2)]
    (tmp_path / "more.json").write_text(json.dumps([task | {"annotations": annotations}]))
    done = import_export(world.services, tmp_path / "more.json")
    assert (done.images, done.accepted) == (1, 1)
    assert world.labels("r100.jpg") == {"class-right": [list(PATHS[1])]}


def test_an_image_on_both_sides_has_the_labels_of_both_controls(world: World, tmp_path: Path) -> None:
    task = world.task(100, PATHS[0], PATHS[1])
    task["data"]["image2"] = "l100.jpg"
    annotations = [annotation(900 + person, person, PATHS[0], PATHS[1]) for person in (1, 2)]
    (tmp_path / "more.json").write_text(json.dumps([task | {"annotations": annotations}]))
    assert import_export(world.services, tmp_path / "more.json").images == 1
    assert world.labels("l100.jpg") == {"class-left": [list(PATHS[0])], "class-right": [list(PATHS[1])]}


def test_a_renamed_image_keeps_its_labels(world: World) -> None:
    before = world.labels("r1.jpg")
    world.services.projects.update("7", label_config=CONFIG.replace("img-right", "right").replace("img-left", "left"))
    update_labels(world.services, "7", [image_id(str(world.folder / "r1.jpg"))])
    assert world.labels("r1.jpg") == before
