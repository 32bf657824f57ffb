"""Images for which no path can be promised get a shortlist: in answers, in the look-alike page and in Python."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import taxonomist
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app
from tests.small_world import image_bytes, publish_backbone

RED, BLUE, GREEN = ("Warm", "Red"), ("Cold", "Blue"), ("Cold", "Green")
CONFIG = """<View><Image name="image" value="$image"/><Taxonomy name="colour" toName="image">
  <Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
  <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice>
  <Choice value="Neutral"><Choice value="Black"/><Choice value="White"/><Choice value="Grey"/><Choice value="Brown"/>
  </Choice></Taxonomy></View>"""


class World:
    """Project "7" on its champion: red images have one of two labels by chance, green ones are green."""

    def __init__(self, home: Path, blind_share: float = 0.0) -> None:
        self.services = Services(Settings(home=home, target_precision=0.8, blind_share=blind_share))

    def image(self, path: tuple[str, ...]) -> str:
        file = self.services.settings.home.parent / f"new-{path[-1]}.jpg"
        file.write_bytes(image_bytes(path, seed=999))
        return str(file)

    @property
    def client(self) -> FlaskClient:
        return create_app(self.services.settings, self.services).test_client()

    def page(self, uri: str) -> str:
        key = self.services.credentials.project_key("7")
        return self.client.get(f"/similar?project=7&key={key}&src={uri}").get_data(as_text=True)

    def predict(self, *paths: tuple[str, ...], config: str = CONFIG, client: FlaskClient | None = None) -> Any:
        tasks = [{"id": number, "data": {"image": self.image(path)}} for number, path in enumerate(paths, start=1)]
        body = {"tasks": tasks, "project": "7", "label_config": config}
        return (client or self.client).post("/predict", json=body).get_json()["results"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("lists")
    services = Services(Settings(home=folder / "home", head="lda", target_precision=0.8))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    chance = random.Random(0)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "level1", "level2", "product"])
        for number in range(120):
            colour = RED if number % 2 else GREEN
            (folder / f"{number}.jpg").write_bytes(image_bytes(colour, number))
            label = chance.choice([RED, BLUE]) if colour == RED else GREEN
            rows.writerow([f"{number}.jpg", *label, f"p{number}"])
    import_manifest(services, folder / "manifest.csv", "7", images=folder)
    train(services, "7", lambda step, share: None)
    services.close()
    return World(folder / "home")


def test_an_answer_has_a_path_or_a_shortlist(world: World) -> None:
    sure, unsure = world.predict(GREEN, RED)
    assert sure["result"][0]["value"] == {"taxonomy": [list(GREEN)]}
    assert sure.keys() == {"model_version", "score", "result"}
    assert (unsure["result"], unsure["score"]) == ([], 0.0)
    assert sorted(unsure["shortlists"]["colour"]["paths"]) == [list(BLUE), list(RED)]
    assert unsure["shortlists"]["colour"]["score"] > 0.9
    assert [row.path for row in world.services.suggestions.of_tasks("7", ["1", "2"])] == [GREEN]


def test_tasks_with_a_shortlist_are_counted(world: World) -> None:
    client = world.client
    world.predict(GREEN, RED, RED, client=client)
    metrics = client.get("/metrics").get_data(as_text=True)
    counts = {outcome: f'taxonomist_predicted_tasks_total{{outcome="{outcome}"}} {count}.0'
              for outcome, count in (("suggested", 1), ("listed", 2), ("empty", 0))}  # fmt: skip
    assert all(line in metrics for line in counts.values())


def test_the_look_alike_page_shows_the_shortlist_as_text(world: World) -> None:
    pages = {path: world.page(world.image(path)) for path in (GREEN, RED)}
    assert "Probably one of these" not in pages[GREEN]
    before, groups = pages[RED].split('<section class="block group">', 1)
    assert "Probably one of these" in before
    assert sorted(re.findall('<li class="offer" title="(.*)">', before)) == ["Cold › Blue", "Warm › Red"]
    assert "<img" in groups


def test_a_broken_promise_ends_the_shortlists_of_its_control(world: World) -> None:
    world.services.suggestions.keep_floors("7", "taxonomist-v1", {"colour": 0.5})
    assert "shortlists" not in world.predict(RED)[0]
    world.services.suggestions.keep_floors("7", "taxonomist-v1", {})
    assert "shortlists" in world.predict(RED)[0]


def test_a_blind_task_has_no_shortlist_anywhere(world: World) -> None:
    uri = world.image(RED)
    task = {"id": 5, "data": {"image": uri}, "project": 7}
    answer = world.client.post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": 7}, "tasks": [task]})
    assert answer.get_json()["new"] == 1
    world.services.journal.fold()
    assert "Probably one of these" in world.page(uri)
    blind = World(world.services.settings.home, blind_share=1.0)
    assert "shortlists" not in blind.predict(RED)[0]
    page = blind.page(uri)
    assert "Control sample: please label without help." in page
    assert "Probably one of these" not in page
    assert "<img" not in page


def test_python_gets_the_shortlist(world: World) -> None:
    with taxonomist.open_home(world.services.settings.home) as home:
        sure, unsure = home.project("7").predict([world.image(GREEN), world.image(RED)])
    assert (sure.path, sure.shortlist) == (GREEN, ())
    assert (unsure.path, sorted(unsure.shortlist)) == ((), [BLUE, RED])
    assert unsure.score > 0.9
