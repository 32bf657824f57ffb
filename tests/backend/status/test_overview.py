"""The overview of a project: what needs a person, the figures of the versions, the labels by node."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import Answer, StoredSuggestion
from taxonomist.backend.status import Need, NeedKind, collect_overview, collect_projects
from taxonomist.storage.catalog import ImageDocument, ProjectLabels
from taxonomist.taxonomy.errors import NotFoundError
from tests.small_world import CONFIG, publish_promise


def need(services: Services, kind: NeedKind) -> Need | None:
    return next((found for found in collect_overview(services, "7").needs if found.kind is kind), None)


def undecided(services: Services, id: str, reason: str, day: int) -> None:
    labels = ProjectLabels(uri=f"/{id}.jpg", reason=reason, updated_at=datetime(2026, 1, day, tzinfo=UTC))
    services.catalog.put(ImageDocument(id=id).in_project("7", labels))


def test_a_champion_with_test_images(trained: Services) -> None:
    overview = collect_overview(trained, "7")
    champion = overview.champion
    assert champion is not None
    assert (champion.version, champion.served, champion.labels) == ("v1", True, 80)
    assert (champion.test_images, champion.test_products, champion.products_known) == (16, 16, True)
    assert champion.macro_f1 == {"colour": 1.0}
    assert [promise.control for promise in champion.promises] == ["colour"]
    assert champion.right(blind=False) == (0, 0)
    assert [row.champion for row in collect_projects(trained)] == ["v1"]


def test_labels_by_node_follow_the_taxonomy(trained: Services) -> None:
    labels = ProjectLabels(uri="/x.jpg", accepted={"colour": [["Warm", "Scarlet"]]})
    trained.catalog.put(ImageDocument(id="x").in_project("7", labels))
    warm, cold = collect_overview(trained, "7").nodes
    assert [(node.name, node.labels) for node in (warm, *warm.below)] == [
        ("Warm", 41),
        ("Red", 20),
        ("Yellow", 20),
        ("Scarlet", 1),
    ]
    assert [node.labels for node in cold.below] == [20, 20]


def test_images_without_a_label_say_since_when(trained: Services) -> None:
    assert need(trained, NeedKind.DISAGREEMENT) is None
    undecided(trained, "a", "no_agreement", 3)
    undecided(trained, "b", "no_agreement", 2)
    undecided(trained, "c", "too_few_annotators", 5)
    trained.projects.update("7", settings=trained.projects.get("7").settings.model_copy(update={"annotators": 3}))
    assert need(trained, NeedKind.DISAGREEMENT) == Need(NeedKind.DISAGREEMENT, 2, datetime(2026, 1, 2, tzinfo=UTC))
    waiting = need(trained, NeedKind.FEW_ANNOTATORS)
    assert waiting == Need(NeedKind.FEW_ANNOTATORS, 1, datetime(2026, 1, 5, tzinfo=UTC), people=1, needed=3)


def test_answers_and_a_broken_promise(trained: Services) -> None:
    publish_promise(trained, "7", target=0.9, threshold=0.5)
    rows = [
        StoredSuggestion(str(n), "colour", "taxonomist-v2", f"i{n}", ("Warm",), 0.9, 1.0, blind=n == 0)
        for n in range(4)
    ]
    trained.suggestions.add("7", rows)
    answers = [Answer(row.task_id, "colour", row.version, 2.0, row.task_id != "3", row.task_id) for row in rows]
    trained.suggestions.keep_answers("7", [row.image_id for row in rows], answers)
    trained.suggestions.keep_floors("7", "taxonomist-v2", {"colour": inf})
    overview = collect_overview(trained, "7")
    assert overview.champion is not None
    assert overview.champion.right(blind=False) == (2, 3)
    assert overview.champion.right(blind=True) == (1, 1)
    assert overview.suggested == 4
    assert not overview.champion.promises[0].suggests
    assert need(trained, NeedKind.PROMISE_BROKEN) == Need(NeedKind.PROMISE_BROKEN, names=("colour",))
    assert not overview.champion.test_images  # it was never tested


def test_a_project_without_images_and_one_that_is_not_known(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG, title="Colours")
    overview = collect_overview(services, "7")
    assert (overview.title, overview.champion, overview.versions, overview.work) == ("Colours", None, (), ())
    assert [node.labels for node in overview.nodes] == [0, 0]
    with pytest.raises(NotFoundError):
        collect_overview(services, "8")
