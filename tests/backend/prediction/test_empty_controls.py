"""A control that annotators leave empty, or do not see, gets no suggestion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.connection.doctor import model as model_checks
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.image_folders import image_folder
from taxonomist.backend.web.app import create_app
from tests.small_world import PATHS, image_bytes, publish_backbone

DAY = "2026-01-05T10:00:00Z"
OPTIONAL = """<View><Image name="image" value="$image"/>
  <Taxonomy name="colour" toName="image"><Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
    <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice></Taxonomy>
  <Taxonomy name="finish" toName="image"><Choice value="Matt"/><Choice value="Glossy"/></Taxonomy></View>"""
ONE_CONTROL = """<View><Image name="image" value="$image"/>
  <Taxonomy name="mark" toName="image"><Choice value="Red mark"/><Choice value="Yellow mark"/></Taxonomy></View>"""
CONDITIONAL = """<View><Image name="image" value="$image"/>
  <Choices name="warmth" toName="image"><Choice value="Warm"/><Choice value="Cold"/></Choices>
  <View visibleWhen="choice-selected" whenTagName="warmth" whenChoiceValue="Warm">
    <Choices name="warm" toName="image"><Choice value="Red"/><Choice value="Yellow"/></Choices></View>
  <View visibleWhen="choice-selected" whenTagName="warmth" whenChoiceValue="Cold">
    <Choices name="cold" toName="image"><Choice value="Blue"/><Choice value="Green"/></Choices></View></View>"""


def region(name: str, kind: str, value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": {kind: [value]}}


def optional(path: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the regions of an image: only warm ones have a finish, which is always the same."""
    colour, finish = region("colour", "taxonomy", list(path)), region("finish", "taxonomy", ["Matt"])
    return [colour, finish] if path[0] == "Warm" else [colour]


def one_control(path: tuple[str, ...]) -> list[dict[str, Any]]:
    return [region("mark", "taxonomy", [f"{path[-1]} mark"])] if path[0] == "Warm" else []


def conditional(path: tuple[str, ...]) -> list[dict[str, Any]]:
    return [region("warmth", "choices", path[0]), region(path[0].lower(), "choices", path[1])]


class Project:
    """Project "7" with 60 annotated images of its config."""

    def __init__(self, settings: Settings, folder: Path, config: str, regions: Any) -> None:
        self.services = Services(settings.model_copy(update={"target_precision": 0.5, "product_field": "sku"}))
        self.folder, self.config = folder, config
        folder.mkdir()
        publish_backbone(self.services)
        self.services.projects.update("7", label_config=config, image_folders=(image_folder(folder),))
        tasks = []
        for number in range(60):
            path = PATHS[number % 4]
            annotations = [
                {"id": 10 * number + person, "completed_by": person, "created_at": DAY, "result": regions(path)}
                for person in (1, 2)
            ]
            tasks.append({**self.task(number, path), "annotations": annotations})
        export = folder / "export.json"
        export.write_text(json.dumps(tasks))
        self.done = import_export(self.services, export)

    def task(self, number: int, path: tuple[str, ...]) -> dict[str, Any]:
        (self.folder / f"{number}.jpg").write_bytes(image_bytes(path, number))
        data = {"image": str(self.folder / f"{number}.jpg"), "sku": f"p{number}"}
        return {"id": number, "project": 7, "created_at": DAY, "data": data}

    def suggested(self, config: str | None = None) -> list[dict[str, Any]]:
        """Return what is suggested for a new image of each path, by control."""
        tasks = [self.task(100 + n, path) for n, path in enumerate(PATHS)]
        body = {"tasks": tasks, "label_config": config or self.config, "project": "7.1795531934"}
        client = create_app(self.services.settings, self.services).test_client()
        answers = client.post("/predict", json=body).get_json()["results"]
        return [{part["from_name"]: next(iter(part["value"].values()))[0] for part in a["result"]} for a in answers]


@pytest.mark.parametrize("is_trained", [False, True])
def test_an_optional_control_is_silent_where_people_leave_it_empty(
    settings: Settings, tmp_path: Path, is_trained: bool
) -> None:
    settings = settings.model_copy(update={"neighbours": 60})  # all images vote
    project = Project(settings, tmp_path / "images", OPTIONAL, optional)
    embed_all(project.services, "7", lambda step, share: None)
    if is_trained:
        train(project.services, "7", lambda step, share: None)
    assert [found.get("finish") for found in project.suggested()] == [["Matt"], ["Matt"], None, None]
    if is_trained:  # the node for no answer is the model's own
        checks = {check.name: check for check in model_checks.checks(project.services, "7")}
        assert checks["model's taxonomy"].status == "ok"


def test_the_only_control_is_silent_where_people_leave_it_empty(settings: Settings, tmp_path: Path) -> None:
    project = Project(settings, tmp_path / "images", ONE_CONTROL, one_control)
    assert (project.done.accepted, project.done.unlabelled) == (30, {"empty": 30})
    train(project.services, "7", lambda step, share: None)
    assert project.suggested() == [{"mark": ["Red mark"]}, {"mark": ["Yellow mark"]}, {}, {}]


def test_a_hidden_control_is_never_filled(settings: Settings, tmp_path: Path) -> None:
    project = Project(settings, tmp_path / "images", CONDITIONAL, conditional)
    embed_all(project.services, "7", lambda step, share: None)
    wanted = [{"warmth": path[0], path[0].lower(): path[1]} for path in PATHS]
    assert project.suggested() == wanted
    train(project.services, "7", lambda step, share: None)
    assert project.suggested() == wanted
    # shown only beside the other answer: what the model would say stays out
    turned = CONDITIONAL.replace('whenChoiceValue="Warm"', 'whenChoiceValue="X"')
    turned = turned.replace('whenChoiceValue="Cold"', 'whenChoiceValue="Warm"')
    assert project.suggested(turned) == [{"warmth": path[0]} for path in PATHS]
