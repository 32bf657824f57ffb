"""The doctor on Azure's emulators."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from azure.cosmos import CosmosClient, PartitionKey
from azure.storage.blob import BlobServiceClient
from pydantic import SecretStr

import emulators
from taxonomist.backend.azure.accounts import cosmos_access
from taxonomist.backend.connection.doctor import azure
from taxonomist.backend.connection.doctor.result import Check
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.cosmos_install import FUNCTION, install
from tests.fault_proxy import Fault, fault_proxy
from tests.small_world import image_bytes

pytestmark = pytest.mark.slow


def seen(services: Services) -> dict[str, Check]:
    checks = list(azure.checks(services))
    assert len({check.name for check in checks}) == len(checks)
    assert all(bool(check.fix) == (check.status != "ok") for check in checks)
    return {check.name: check for check in checks}


@pytest.fixture
def cloudy(settings: Settings, azurite: emulators.Blob, cosmos_server: emulators.Cosmos) -> Iterator[Services]:
    """Services whose containers and database do not exist yet."""
    names = {"cosmos_database": uuid4().hex, "blob_containers": [uuid4().hex], "models_container": uuid4().hex}
    services = Services(
        settings.model_copy(
            update={
                "cosmos_connection_string": SecretStr(cosmos_server.connection_string),
                "blob_connection_string": SecretStr(azurite.connection_string),
                "azure_timeout": 2.0,
                **names,
            }
        )
    )
    yield services
    services.catalog.close()
    services.blob_account.close()


def test_without_azure_there_is_nothing_to_check(services: Services) -> None:
    assert seen(services) == {}


def test_an_empty_account(cloudy: Services) -> None:
    (images,), models = cloudy.settings.blob_containers, cloudy.settings.models_container
    checks = seen(cloudy)
    assert {name: check.status for name, check in checks.items()} == {
        "Cosmos DB": "ok",
        "Cosmos DB container images": "fail",
        "storage account": "ok",
        "clock": "ok",
        f"Blob container {images}": "fail",
        f"models container {models}": "warn",
        "image in Azure": "fail",
    }
    assert checks["Cosmos DB container images"].fix == "taxonomist cosmos install"
    assert "taxonomist cosmos install" in checks["image in Azure"].fix


def test_all_is_well(cloudy: Services, azurite: emulators.Blob) -> None:
    (images,), models = cloudy.settings.blob_containers, cloudy.settings.models_container
    install(cosmos_access(cloudy.settings))
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        service.create_container(images).upload_blob("a.jpg", image_bytes(("Warm", "Red"), 0))
        service.create_container(str(models))
        uri = f"azure-blob://{images}/a.jpg"
        cloudy.catalog.update("a", lambda document: document.model_copy(update={"uri_orig": uri}))
        checks = seen(cloudy)
        assert {check.status for check in checks.values()} == {"ok"}, checks
        assert "can be read" in checks["image in Azure"].detail
        assert not list(service.get_container_client(str(models)).list_blobs())
        service.get_container_client(images).delete_blob("a.jpg")
        assert seen(cloudy)["image in Azure"].status == "fail"


def test_another_function_and_another_partition_key(cloudy: Services, cosmos_server: emulators.Cosmos) -> None:
    settings = cloudy.settings
    with CosmosClient(cosmos_server.url, cosmos_server.key, enable_endpoint_discovery=False) as client:
        database = client.create_database(settings.cosmos_database)
        container = database.create_container("images", partition_key=PartitionKey(path="/project"))
        checks = seen(cloudy)
        assert checks["query function in images"].detail == "does not exist"
        assert checks["Cosmos DB container images"].status == "warn"
        assert "/project" in checks["Cosmos DB container images"].detail
        container.scripts.create_user_defined_function({"id": FUNCTION, "body": "function old() { return [] }"})
        check = seen(cloudy)["query function in images"]
        assert (check.detail, check.fix) == ("is not that of this release", "taxonomist cosmos install")
    install(cosmos_access(settings))
    assert seen(cloudy)["query function in images"].status == "ok"


def test_nothing_answers(cloudy: Services) -> None:
    port = emulators.free_port()
    dead = {
        "cosmos_connection_string": SecretStr(f"AccountEndpoint=http://127.0.0.1:{port}/;AccountKey=c2VjcmV0;"),
        "blob_connection_string": SecretStr(
            f"AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint=http://127.0.0.1:{port}/a;"
        ),
    }
    services = Services(cloudy.settings.model_copy(update=dead))
    try:
        checks = seen(services)
    finally:
        services.catalog.close()
        services.blob_account.close()
    assert {name: check.status for name, check in checks.items()} == {"Cosmos DB": "fail", "storage account": "fail"}
    assert "c2VjcmV0" not in repr(checks)


def test_a_wrong_key_and_a_role_that_only_reads(cloudy: Services, azurite: emulators.Blob) -> None:
    settings = cloudy.settings
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        service.create_container(str(settings.models_container))
    with fault_proxy(azurite.port) as proxy:
        through = {"blob_connection_string": SecretStr(azurite.through(proxy.port)), "cosmos_connection_string": None}
        services = Services(settings.model_copy(update=through))
        try:
            proxy.use(lambda request: Fault(status=403) if request.method == "PUT" else None)
            assert "Contributor" in seen(services)[f"models container {settings.models_container}"].fix
            proxy.use(lambda _: Fault(status=403))
            refused = seen(services)
        finally:
            services.blob_account.close()
    assert refused[f"models container {settings.models_container}"].detail == "may not be read"
    assert refused[f"Blob container {settings.blob_containers[0]}"].detail == "may not be read"


@pytest.mark.parametrize(("minutes", "status"), [(-2, "warn"), (20, "fail")])
def test_a_clock_that_is_wrong(cloudy: Services, azurite: emulators.Blob, minutes: int, status: str) -> None:
    theirs = format_datetime(datetime.now(UTC) - timedelta(minutes=minutes), usegmt=True)
    with fault_proxy(azurite.port) as proxy:
        proxy.use(lambda _: Fault(status=404, headers={"Date": theirs, "x-ms-error-code": "BlobNotFound"}))
        through = {"blob_connection_string": SecretStr(azurite.through(proxy.port)), "cosmos_connection_string": None}
        services = Services(cloudy.settings.model_copy(update=through))
        try:
            clock = seen(services)["clock"]
        finally:
            services.blob_account.close()
    assert clock.status == status
    assert ("behind" if minutes < 0 else "ahead of") in clock.detail
