"""What helps to label an image, found for an image of a task and for one that is passed in."""

from __future__ import annotations

from taxonomist.backend.prediction.assistance import Assistance, OffersKind, Reason, assist, assist_with
from taxonomist.backend.prediction.image_predictions import predict_images
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.web.panel.view import Links, panel_view
from taxonomist.storage.catalog.documents import ImageDocument
from tests.backend.web.test_app import new_image
from tests.small_world import CONFIG

GREEN = ("Cold", "Green")


def shown_in(found: Assistance) -> set[str]:
    return {image.image_id for group in found.groups for image in group.look_alikes}


def documents_with(services: Services, path: tuple[str, ...]) -> list[ImageDocument]:
    accepted = {"colour": [list(path)]}
    return [row for row in services.catalog.documents("7", labelled=True) if row.projects["7"].accepted == accepted]


def test_python_gets_what_the_panel_shows(trained: Services) -> None:
    uri = new_image(trained, GREEN)
    found, shown = assist(trained, "7", uri), assist_with(trained, Predictor(trained), "7", uri)
    assert (found.offers, found.reasons, found.images) == (shown.offers, (), {"colour": "image"})
    assert shown_in(found) == shown_in(shown)
    [offers] = found.offers
    assert (offers.control, offers.kind, offers.offers[0].path) == ("colour", OffersKind.SUGGESTION, GREEN)
    assert len(shown_in(found)) == trained.settings.neighbours
    assert len(shown_in(assist(trained, "7", uri, 3))) == 3


def test_other_views_of_the_product_are_marked(trained: Services) -> None:
    query, *_ = documents_with(trained, GREEN)
    uri = query.projects["7"].uri
    view, *_ = sorted(shown_in(assist_with(trained, Predictor(trained), "7", uri)))
    document = trained.catalog.get_many([view])[view]
    same = document.projects["7"].model_copy(update={"group": query.product("7")})
    trained.catalog.put(document.in_project("7", same))
    found = assist_with(trained, Predictor(trained), "7", uri)
    assert {image.image_id for group in found.groups for image in group.look_alikes if image.same_product} == {view}


def test_near_duplicates_are_those_within_the_distance_of_the_backbone(trained: Services) -> None:
    predictor = Predictor(trained)
    backbone = predictor.backbone("7")
    assert backbone
    query, green, *_ = documents_with(trained, GREEN)
    red, *_ = documents_with(trained, ("Warm", "Red"))
    _, vectors = trained.embeddings(backbone).get([query.id])
    near = predictor.look_alikes.near_duplicates("7", vectors[0], backbone, [query.id, green.id, red.id, "gone"])
    assert near == {query.id, green.id}


def test_a_broken_promise_is_the_reason(trained: Services) -> None:
    uri = new_image(trained, GREEN)
    trained.suggestions.keep_floors("7", "taxonomist-v1", {"colour": float("inf")})
    assert assist(trained, "7", uri).reasons == (Reason.PAUSED,)


def test_the_reason_is_the_one_that_similar_explains(trained: Services) -> None:
    other = '<Taxonomy name="use" toName="image"><Choice value="Indoor"/></Taxonomy>'
    gone = CONFIG.replace('<Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice>', "")
    uri = new_image(trained, GREEN)
    for config, reason, detail in (
        (CONFIG.replace("</View>", f"{other}</View>"), Reason.NOT_LEARNED, "has not learned the control use"),
        (gone, Reason.NOT_ALLOWED, "is not allowed by today's labelling config"),
    ):
        trained.projects.update("7", label_config=config)
        predictor = Predictor(trained)
        assert assist(trained, "7", uri, predictor=predictor).reasons == (reason,)
        assert detail in list(predict_images(trained, "7", [uri], predictor))[-1].reason


def test_people_see_values_and_the_control_gets_aliases(trained: Services) -> None:
    config = CONFIG.replace('"Green"/>', '"A green" alias="Green"/>')
    trained.projects.update("7", label_config=config)
    found = assist(trained, "7", new_image(trained, GREEN))
    assert found.offers[0].offers[0].path == GREEN
    assert found.names("colour", GREEN) == ("Cold", "A green")
    view = panel_view(found, Links(lambda image: image, None))
    assert (view.groups[0].label.name, view.groups[0].label.above) == ("A green", "Cold")
    assert '["Cold", "Green"]' in view.groups[0].label.to_set
