"""A version whose suggestions prove worse than its predecessor's is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.retraining.roll_back import roll_back_if_worse
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.state.suggestions import Answer, StoredSuggestion
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.taxonomy.label_config import parse_label_config
from tests.small_world import CONFIG

RED, WARM, BLUE = ("Warm", "Red"), ("Warm",), ("Cold", "Blue")


def publish(services: Services, **changes: Any) -> None:
    with services.registry.stage("project-7") as folder:
        (folder / "notes.txt").write_text("a head")
        manifest = {
            "kind": "head",
            "backbone": "v1",
            "trees": [tree.to_json() for tree in parse_label_config(CONFIG).trees],
            "calibration": {},
            "promotion": {"promoted": True, "reason": "It is not worse."},
        }
        version = services.registry.publish("project-7", folder, {**manifest, **changes})
    services.registry.promote("project-7", version.version)


@pytest.fixture
def project(services: Services) -> Services:
    services.projects.update("7", label_config=CONFIG)
    publish(services)
    return services


def answer(
    services: Services,
    number: int,
    former: tuple[str, ...],
    served: tuple[str, ...],
    product: str,
    versions: tuple[int, int] = (1, 2),
) -> None:
    """Add an image with the label RED, and what two versions suggested for it, the former one and the served one."""
    id = f"image-{number}"
    labels = ProjectLabels(uri=f"/data/{id}.jpg", accepted={"colour": [list(RED)]})
    services.catalog.put(ImageDocument(id=id).in_project("7", labels))
    services.suggestions.add(
        "7",
        [
            StoredSuggestion(str(number), "colour", f"taxonomist-v{version}", id, path, 0.9, 1.0)
            for version, path in zip(versions, (former, served), strict=True)
        ],
    )
    right = RED[: len(served)] == served
    services.suggestions.keep_answers(
        "7", [id], [Answer(str(number), "colour", f"taxonomist-v{versions[1]}", 10.0 + number, right, product)]
    )


@pytest.mark.parametrize("count", [6, 7])
def test_seven_products_without_a_contrary_one_take_a_version_back(
    project: Services, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    publish(project)
    for number in range(count):
        answer(project, number, RED, BLUE if number % 2 else WARM, f"product {number}")  # wrong, or less deep
    answer(project, 20, RED, BLUE, "product 0")  # of a product that has had its say
    answer(project, 21, BLUE, ("Cold",), "product 21")  # both are wrong
    done = roll_back_if_worse(project, "7")
    if count == 6:
        assert (done, project.registry.champion("project-7")) == (None, "v2")
        return
    assert done == (
        "taxonomist-v1 is served again in place of taxonomist-v2: its suggestion was the better one for 7 of the 7 "
        "products where accepted labels tell them apart."
    )
    assert project.registry.champion("project-7") == "v1"
    assert done in caplog.text
    assert roll_back_if_worse(project, "7") is None


@pytest.mark.parametrize("why", ["a person promotes", "it lost its comparison", "another backbone", "it is the better"])
def test_what_is_not_taken_back(project: Services, why: str) -> None:
    changes: dict[str, Any] = {
        "it lost its comparison": {"promotion": {"promoted": False, "reason": "It is worse."}},
        "another backbone": {"backbone": "v2"},
    }
    publish(project, **changes.get(why, {}))
    if why == "a person promotes":
        project.projects.update("7", settings=ProjectChoices(promotion="manual"))
    for number in range(12):
        paths = (BLUE, RED) if why == "it is the better" else (RED, BLUE)
        answer(project, number, *paths, f"product {number}")
    assert roll_back_if_worse(project, "7") is None
    assert project.registry.champion("project-7") == "v2"


def test_an_older_version_that_a_person_went_back_to_stays(project: Services) -> None:
    publish(project)
    project.registry.promote("project-7", "v1")
    for number in range(12):
        answer(project, number, RED, BLUE, f"product {number}", versions=(2, 1))
    assert roll_back_if_worse(project, "7") is None
    assert project.registry.champion("project-7") == "v1"
