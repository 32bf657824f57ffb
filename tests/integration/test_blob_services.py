"""The backend with images, models and embeddings in Azure Blob Storage."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from html import unescape
from pathlib import Path
from uuid import uuid4

import pytest

import emulators
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction import champions
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.web.test_app import client_of, predict
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone, write_catalogue


@pytest.fixture
def proxy(azurite: emulators.Blob) -> Iterator[FaultProxy]:
    with fault_proxy(azurite.port) as running:
        yield running


@pytest.fixture
def in_azure(azurite: emulators.Blob, proxy: FaultProxy, tmp_path: Path) -> Iterator[Services]:
    """Project "7": 80 labelled images in a private container, and a model that was trained on them."""
    settings = Settings(
        home=tmp_path / "home",
        blob_connection_string=azurite.through(proxy.port),
        models_container=f"models-{uuid4().hex}",
        azure_timeout=2.0,
    )
    services = Services(settings)
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path / "catalogue", 80), "7")
    container = uuid4().hex
    for document in list(services.catalog.documents("7")):
        file = Path(document.projects["7"].uri)
        upload(services.blob_account, container, file.name, file.read_bytes())
        services.catalog.update(document.id, partial(moved, uri=f"azure-blob://{container}/{file.name}"))
        file.unlink()
    train(services, "7", lambda step, share: None)
    yield services
    services.close()


def upload(account: BlobAccount, container: str, name: str, data: bytes) -> None:
    account.run(lambda: account.write(container, name, data))


def moved(document: ImageDocument, uri: str) -> ImageDocument:
    projects = {name: state.model_copy(update={"uri": uri}) for name, state in document.projects.items()}
    return document.model_copy(update={"projects": projects})


def beside(services: Services, name: str) -> str:
    """Return the address of a name in the container of the images."""
    first = next(services.catalog.documents("7")).projects["7"].uri
    return f"{first.rpartition('/')[0]}/{name}"


@pytest.mark.slow
def test_look_alikes_in_azure_are_shown_by_our_thumbnails(in_azure: Services) -> None:
    uri = beside(in_azure, "new.jpg")
    upload(in_azure.blob_account, uri.split("/")[2], "new.jpg", image_bytes(PATHS[3], 999))
    key = in_azure.credentials.project_key("7")
    client = client_of(in_azure)
    page = client.get(f"/similar?project=7&key={key}&src={uri}")
    links = [unescape(link) for link in re.findall(r'<img src="([^"]*)"', page.get_data(as_text=True))]
    assert len(links) == in_azure.settings.neighbours
    assert {client.get(link).content_type for link in links} == {"image/jpeg"}


@pytest.mark.slow
def test_another_server_has_models_and_embeddings_without_making_them(
    in_azure: Services, azurite: emulators.Blob, tmp_path: Path
) -> None:
    in_azure.close()  # as at the end of a command: what is new is sent
    settings = in_azure.settings.model_copy(update={"home": tmp_path / "other"})
    other = Services(settings)
    assert other.registry.champions() == in_azure.registry.champions()
    version = other.registry.champion(registry_name("7"))
    assert version == "v1"
    other.registry.verify(other.registry.get(registry_name("7"), version))
    backbone = other.registry.champion(BACKBONE)
    assert backbone is not None
    ids = [document.id for document in in_azure.catalog.documents("7")]
    assert other.embeddings(backbone).get(ids)[0].all()
    other.close()
    other.blob_account.close()


@pytest.mark.slow
def test_suggestions_go_on_while_azure_is_away(in_azure: Services, proxy: FaultProxy) -> None:
    uri = beside(in_azure, "0003.jpg")
    before = predict(in_azure, uri)
    proxy.use(lambda request: Fault(status=503))
    assert predict(in_azure, uri) == before
    restarted = Services(in_azure.settings)
    assert predict(restarted, uri) == before
    proxy.use()
    restarted.close()
    restarted.blob_account.close()


@pytest.mark.slow
def test_a_model_that_could_not_be_fetched_is_tried_again(
    in_azure: Services, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(champions, "RETRY_S", 1.0)
    other = Services(in_azure.settings.model_copy(update={"home": tmp_path / "other"}))
    other.projects.update("7", label_config=CONFIG)
    serving = Predictor(other)
    proxy.use(lambda request: Fault(status=503) if request.path.endswith("head.safetensors") else None)
    assert serving.model("7") is None
    proxy.use()
    assert serving.model("7") is None  # not with every request
    time.sleep(1.1)
    model = serving.model("7")
    assert model is not None
    assert model.version == "v1"
    other.close()
    other.blob_account.close()


@pytest.mark.slow
def test_a_lost_image_is_reported_as_missing(in_azure: Services) -> None:
    uri = beside(in_azure, "vanished.jpg")
    backbone = in_azure.registry.champion(BACKBONE)
    assert backbone is not None
    answer = embed(in_azure, "7", {"vanished": uri}, backbone)
    assert "does not exist" in str(answer.failures["vanished"])


def test_a_storage_account_is_set_once() -> None:
    text = "AccountName=a;AccountKey=aa=="
    twice = Settings(blob_connection_string=text, blob_account_url="https://a.blob.core.windows.net")
    with pytest.raises(ConfigError, match="set twice"):
        _ = Services(twice).blob_account
    with pytest.raises(ConfigError, match="TAXONOMIST_BLOB_ACCOUNT_URL"):
        _ = Services(Settings(models_container="models")).registry
    assert Services(Settings()).blob_images is None


def test_keys_are_not_printed() -> None:
    assert "hunter2" not in repr(Settings(blob_connection_string="AccountName=a;AccountKey=hunter2"))
