"""Images with faces or personal data: never shown as look-alikes, never copied, unless the settings allow it."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.backend.prediction.image_predictions import look_alikes_of_image
from taxonomist.backend.prediction.look_alikes import LookAlikes
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store, wanted_images
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.state.credentials import THUMBNAIL
from taxonomist.backend.web.app import create_app
from taxonomist.storage.catalog import ImageDocument
from tests.small_world import PATHS, SIZE, image_bytes

PRIVATE: list[dict[str, Any]] = [
    {"face_rects": [[10, 10, 20, 20]]},
    {"pii_entities": [{"category": "Person", "text": "A. Muster"}]},
    {"pii_entities": "A. Muster"},
    {"face_rects": {"left": 3}},
]
OPEN: list[dict[str, Any]] = [
    {},
    {"face_rects": None, "pii_entities": None},
    {"face_rects": [], "pii_entities": []},
    {"pii_entities": ""},
]


def mark(services: Services, id: str, fields: dict[str, Any]) -> None:
    services.catalog.update(id, lambda document: document.model_copy(update=fields))


def allowing(services: Services) -> Services:
    return Services(services.settings.model_copy(update={"allow_private": True}))


def shown(services: Services, look_alikes: LookAlikes, document: ImageDocument) -> list[str]:
    """Return the ids that the page shows beside this image."""
    vector, backbone = embedding(services, document)
    return [look_alike.image_id for look_alike in look_alikes.shown("7", vector, backbone, k=3)]


def embedding(services: Services, document: ImageDocument) -> tuple[NDArray[np.float32], str]:
    backbone = services.registry.champion(BACKBONE)
    assert backbone is not None
    return services.embeddings(backbone).get([document.id])[1][0], backbone


@pytest.mark.parametrize("fields", PRIVATE)
def test_a_private_image_is_shown_as_look_alike_only_if_allowed(trained: Services, fields: dict[str, Any]) -> None:
    document = next(trained.catalog.documents("7", labelled=True))
    assert shown(trained, LookAlikes(trained), document)[0] == document.id
    mark(trained, document.id, fields)
    found = shown(trained, LookAlikes(trained), document)
    assert len(found) == 3
    assert document.id not in found
    assert document.id not in {
        look_alike.image_id for look_alike in LookAlikes(trained).nearest("7", *embedding(trained, document))
    }
    allowed = allowing(trained)
    assert shown(allowed, LookAlikes(allowed), document)[0] == document.id


@pytest.mark.parametrize("fields", OPEN)
def test_an_image_without_findings_is_not_private(trained: Services, fields: dict[str, Any]) -> None:
    document = next(trained.catalog.documents("7", labelled=True))
    mark(trained, document.id, fields)
    assert shown(trained, LookAlikes(trained), document)[0] == document.id
    assert document.id in {wanted.id for wanted in wanted_images(trained)}


def test_an_image_that_becomes_private_is_hidden_at_once(trained: Services) -> None:
    look_alikes = LookAlikes(trained)
    document = next(trained.catalog.documents("7", labelled=True))
    first, *others = shown(trained, look_alikes, document)
    assert first == document.id
    vector, backbone = embedding(trained, document)
    similarity = {found.image_id: found.similarity for found in look_alikes.shown("7", vector, backbone, k=10)}
    for id in (first, others[0]):  # the index does not hear of it
        mark(trained, id, PRIVATE[0])
    found = shown(trained, look_alikes, document)
    assert len(found) == 3
    assert not {first, others[0]} & set(found)
    assert similarity[found[0]] == pytest.approx(similarity[others[1]], abs=1e-6)  # several may be equally near
    trained.catalog.leave_project("7", [others[1]])
    assert others[1] not in shown(trained, look_alikes, document)


def test_the_page_the_thumbnail_and_the_command_hide_it(trained: Services) -> None:
    file = trained.settings.home / "query.jpg"
    file.write_bytes(image_bytes(PATHS[0], 5))
    key = trained.credentials.project_key("7")
    with create_app(trained.settings, trained).test_client() as client:
        best = look_alikes_of_image(trained, "7", file, 1)[0].image_id
        thumbnail = f"/thumbnail?project=7&key={trained.credentials.project_key('7', THUMBNAIL)}&id={best}"
        uri = trained.catalog.get_many([best])[best].projects["7"].uri

        def page() -> set[str]:
            answer = client.get(f"/similar?project=7&key={key}&src={uri}").get_data(as_text=True)
            return set(re.findall(r"id=([^&\"]+)", html.unescape(answer)))

        neighbour = next(iter(page()))
        assert client.get(thumbnail).status_code == 200
        mark(trained, best, PRIVATE[0])
        mark(trained, neighbour, PRIVATE[1])
        assert client.get(thumbnail).status_code == 404
        assert len(page()) == trained.settings.neighbours
        assert neighbour not in page()
        assert best != look_alikes_of_image(trained, "7", file, 1)[0].image_id


@pytest.mark.parametrize("fields", PRIVATE)
def test_a_private_image_is_prepared_only_if_allowed(world: Services, fields: dict[str, Any]) -> None:
    document = next(world.catalog.documents())
    mark(world, document.id, fields)
    assert prepare_all(world, SIZE).new == 79
    assert document.id not in prepared_image_store(world, SIZE)
    assert prepare_all(allowing(world), SIZE).new == 1
    assert document.id in prepared_image_store(world, SIZE)
    assert document.id not in {wanted.id for wanted in wanted_images(world)}  # nor does it take part any more
