"""The pages of images, and all about one image."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import Answer, StoredSuggestion
from taxonomist.backend.status.evaluation.images import CellImages, ids_of
from taxonomist.backend.status.images import ImageFilter, collect_image, collect_image_counts, collect_images
from taxonomist.storage.catalog import ImageDocument
from taxonomist.taxonomy.errors import NotFoundError

RED = ImageFilter(node=("colour", "Warm", "Red"))


def all_ids(services: Services, wanted: ImageFilter, limit: int) -> list[str]:
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        page = collect_images(services, "7", wanted, after=after, limit=limit)
        ids += [tile.image_id for tile in page.tiles]
        after = page.after
    return ids


def suggest(services: Services, ids: Sequence[str]) -> None:
    """Suggest Warm / Red for these images; every second one is wrong, whatever the label is."""
    rows = [StoredSuggestion(id, "colour", "taxonomist-v1", id, ("Warm", "Red"), 0.8, 1.0) for id in ids]
    services.suggestions.add("7", rows)
    answers = [Answer(id, "colour", "taxonomist-v1", 2.0, place % 2 == 0, id) for place, id in enumerate(ids)]
    services.suggestions.keep_answers("7", list(ids), answers)


@pytest.mark.parametrize("limit", [1, 7, 20, 60])
def test_pages_have_each_image_once(trained: Services, limit: int) -> None:
    ids = sorted(document.id for document in trained.catalog.documents("7"))
    assert all_ids(trained, ImageFilter(), limit) == ids
    red = all_ids(trained, RED, limit)
    assert len(red) == 20
    assert collect_images(trained, "7", RED).total == 20
    suggest(trained, red[:9])
    assert all_ids(trained, ImageFilter(node=RED.node, judged="right"), limit) == red[:9:2]
    assert all_ids(trained, ImageFilter(node=("colour", "Cold"), judged="right"), limit) == []
    assert all_ids(trained, ImageFilter(judged="wrong", state="labelled"), limit) == red[1:9:2]


@pytest.mark.parametrize("limit", [1, 60])
def test_images_behind_a_number_of_the_evaluation(trained: Services, limit: int) -> None:
    warm = CellImages("v1", "colour", (), None, "=Warm", "=Warm")
    tested, red = ids_of(trained, "7", warm), all_ids(trained, RED, 60)
    assert 4 < len(tested) < 40
    assert all_ids(trained, ImageFilter(evaluated=warm), limit) == tested
    assert collect_images(trained, "7", ImageFilter(evaluated=warm)).total == len(tested)
    both = ImageFilter(node=RED.node, evaluated=warm)
    assert all_ids(trained, both, limit) == [id for id in tested if id in red]
    assert collect_images(trained, "7", both).total is None
    suggest(trained, [*tested[:5], *(id for id in red if id not in tested)])
    assert all_ids(trained, ImageFilter(judged="right", evaluated=warm), limit) == tested[:5:2]


def test_numbers_to_choose_from(trained: Services) -> None:
    suggest(trained, all_ids(trained, RED, 60)[:5])
    counts = collect_image_counts(trained, "7")
    assert (counts.version, counts.right, counts.wrong) == ("v1", 3, 2)
    assert counts.states == {"labelled": 80}
    assert [(node.name, node.labels) for node in counts.nodes] == [("Warm", 40), ("Cold", 40)]


def test_a_tile_says_whether_the_suggestion_is_right(trained: Services) -> None:
    (red,) = all_ids(trained, RED, 60)[:1]
    (blue,) = all_ids(trained, ImageFilter(node=("colour", "Cold", "Blue")), 60)[:1]
    suggest(trained, [red, blue])

    def above(document: ImageDocument) -> ImageDocument:
        labels = document.projects["7"].model_copy(update={"accepted": {"colour": [["Warm"]]}})
        return document.in_project("7", labels)

    def right(id: str) -> bool | None:
        return collect_image(trained, "7", id).tile.suggestions[0].right

    assert (right(red), right(blue)) == (True, False)
    trained.catalog.update(red, above)
    assert right(red) is None  # the label stops above the suggestion


def test_all_about_an_image(trained: Services) -> None:
    id = all_ids(trained, RED, 60)[0]
    found = collect_image(trained, "7", id)
    assert [(opinion.annotator, opinion.labels, opinion.skipped) for opinion in found.opinions] == [
        ("import", {"colour": (("Warm", "Red"),)}, False)
    ]
    assert found.tile.labels == {"colour": (("Warm", "Red"),)}
    assert found.size == (48, 48)
    with pytest.raises(NotFoundError):
        collect_image(trained, "8", id)


def test_images_with_personal_data_are_marked(trained: Services) -> None:
    id = all_ids(trained, RED, 60)[0]
    trained.catalog.update(id, lambda document: document.model_copy(update={"face_rects": [[0, 0, 1, 1]]}))
    assert [tile.image_id for tile in collect_images(trained, "7", RED).tiles if tile.is_private] == [id]
