"""Forgetting with documents in Cosmos DB, and images, embeddings and models in Blob Storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

import emulators
from taxonomist.backend.azure.accounts import cosmos_access
from taxonomist.backend.forgetting.forget import forget_image, forget_project
from taxonomist.backend.forgetting.plan import known_projects, plan_image, plan_project
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog import ImageDocument
from taxonomist.storage.catalog.cosmos_install import install
from tests.backend.forgetting.conftest import traces
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone
from tests.storage.registries import publish

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

COUNT = 6
DAY = "2026-01-05T10:00:00Z"


@pytest.fixture
def container() -> str:
    return uuid4().hex


@pytest.fixture
def in_azure(
    azurite: emulators.Blob, cosmos_server: emulators.Cosmos, container: str, tmp_path: Path
) -> Iterator[Services]:
    """Project "7" with images in a private container, all of them read and embedded, and a model."""
    settings = Settings(
        home=tmp_path / "home",
        cosmos_connection_string=SecretStr(cosmos_server.connection_string),
        cosmos_database=uuid4().hex,
        blob_connection_string=SecretStr(azurite.connection_string),
        models_container=uuid4().hex,
        min_annotators=1,
    )
    install(cosmos_access(settings))
    services = Services(settings)
    publish_backbone(services)
    publish(services.registry, name=registry_name("7"))
    services.registry.promote(registry_name("7"), "v1")
    services.projects.update("7", label_config=CONFIG)
    tasks = []
    for number in range(COUNT):
        data, name = image_bytes(PATHS[0], number), f"secret-{number}.jpg"
        services.blob_account.run(lambda name=name, data=data: services.blob_account.write(container, name, data))  # type: ignore[misc]
        value = {"taxonomy": [list(PATHS[0])]}
        region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": value}
        annotation = {"id": number, "completed_by": 1, "result": [region], "created_at": DAY, "updated_at": DAY}
        tasks.append({"id": number, "data": {"image": uri(container, number)}, "annotations": [annotation]})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    import_export(services, tmp_path / "export.json", project="7")
    images = {document.id: document.projects["7"].uri for document in services.catalog.documents("7")}
    assert len(embed(services, "7", images, "v1").vectors) == COUNT
    services.embeddings("v1").close()  # type: ignore[attr-defined]  # sends what is new
    yield services
    services.close()
    services.blob_account.close()


def uri(container: str, number: int) -> str:
    return f"azure-blob://{container}/secret-{number}.jpg"


def in_blobs(services: Services, text: str) -> list[str]:
    """Return the blobs of the models' container that have the text."""
    account, container = services.blob_account, services.settings.models_container or ""
    blobs = account.run(lambda: account.list(container, ""))
    read = {blob.name: account.run(lambda blob=blob: account.read(container, blob.name)).data for blob in blobs}  # type: ignore[misc]
    return [name for name, data in read.items() if text in name or text.encode() in data]


def test_an_image(in_azure: Services, container: str) -> None:
    assert in_blobs(in_azure, "secret-2")
    plan = plan_image(in_azure, uri(container, 2))
    assert plan.goes["documents"].count == plan.goes["embeddings"].count == plan.goes["cached files"].count == 1
    forget_image(in_azure, plan, lambda step, share: None)
    assert in_azure.catalog.count() == COUNT - 1
    assert in_blobs(in_azure, "secret-2") == []
    assert len(in_blobs(in_azure, "secret-3")) == 1
    assert traces(in_azure.home, ["secret-2"]) == []
    # Another machine gets the others.
    other = Services(in_azure.settings.model_copy(update={"home": in_azure.home.parent / "other"}))
    assert len(other.embeddings("v1")) == COUNT - 1
    other.close()
    other.blob_account.close()


def test_a_project(in_azure: Services, container: str) -> None:
    in_azure.catalog.put(ImageDocument(id="of-another-program", uri_orig="https://h/a.jpg", sortout="Keep"))
    marked = next(in_azure.catalog.documents("7")).id
    in_azure.catalog.update(marked, lambda document: document.model_copy(update={"is_blurred": False}))
    assert plan_project(in_azure, "7").goes["model versions"].count == 1
    forget_project(in_azure, "7", lambda step, share: None)
    assert {document.id: document.projects for document in in_azure.catalog.documents()} == {
        "of-another-program": {},
        marked: {},
    }
    assert in_blobs(in_azure, "secret-") == []
    assert traces(in_azure.home, ["secret-"]) == []
    assert in_azure.registry.names() == ["backbone"]
    assert known_projects(in_azure) == []
    # The images themselves are not ours.
    account = in_azure.blob_account
    assert len(account.run(lambda: account.list(container, ""))) == COUNT
