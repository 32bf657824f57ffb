"""Checks of Azure: the catalogue in Cosmos DB, images and models in Blob Storage."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from taxonomist.backend.azure.accounts import blob_account, cosmos_access, retry_policy
from taxonomist.backend.connection.doctor.result import Check, failed, failure, guarded, passed, warned
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.image_decoding import decode_image
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.blob_probe import BlobProbe, probe, write_and_delete
from taxonomist.storage.catalog.cosmos_install import ContainerState, inspect
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.images.blob import BlobImages
from taxonomist.taxonomy.errors import TaxonomistError

TIMEOUT_S = 10.0  # shorter than that of the server, since a person waits
SOME_SKEW_S, MUCH_SKEW_S = 60.0, 300.0  # links are valid from five minutes before they are made
MAX_DOCUMENTS = 500
_INSTALL = "taxonomist cosmos install"
_RIGHTS = "check the key or the roles, see docs/how-to/azure/troubleshooting.md"
_CLOCK = "synchronise this machine's clock by NTP: Azure refuses signatures that are more than 15 minutes off"


def checks(services: Services) -> Iterator[Check]:
    """Yield the checks of Azure; none when no setting names it."""
    settings = services.settings
    quick = settings.model_copy(update={"azure_timeout": min(TIMEOUT_S, settings.azure_timeout)})
    if settings.cosmos_connection_string or settings.cosmos_endpoint:
        yield from _cosmos(quick)
    if settings.blob_connection_string or settings.blob_account_url:
        yield from _blob(services, quick)


def _cosmos(settings: Settings) -> Iterator[Check]:
    try:
        access = cosmos_access(settings)
        states = inspect(access, retry_policy(settings))
    except TaxonomistError as error:
        yield failure("Cosmos DB", error, _RIGHTS)
        return
    yield passed("Cosmos DB", f"database {access.database} at {access.endpoint}")
    for state in states:
        yield from _container(state)


def _container(state: ContainerState) -> Iterator[Check]:
    name = f"Cosmos DB container {state.name}"
    if state.key_paths is None:
        yield failed(name, "does not exist", _INSTALL)
        return
    if state.key_paths == ("/id",):
        yield passed(name, "exists, its partition key is /id")
    else:
        yield warned(
            name,
            f"its partition key is {', '.join(state.key_paths)}: each read of one document asks all partitions",
            "name a container with the partition key /id first in TAXONOMIST_COSMOS_CONTAINERS, and move them there",
        )
    name = f"query function in {state.name}"
    if state.function == "current":
        yield passed(name, "exists and is up to date")
    elif state.function == "hidden":
        yield warned(name, "our key or role may not read it", f"{_INSTALL}, with the account's key")
    else:
        yield failed(name, "does not exist" if state.function == "missing" else "is not that of this release", _INSTALL)


def _blob(services: Services, settings: Settings) -> Iterator[Check]:
    try:
        account = blob_account(settings)
    except TaxonomistError as error:
        yield failure("storage account", error)
        return
    try:
        yield from _account(account, settings)
        yield from guarded(f"models container {settings.models_container}", _models(account, settings))
    except TaxonomistError as error:
        yield failure("storage account", error, _RIGHTS)
        return
    finally:
        account.close()
    assert services.blob_images is not None
    yield _image(services, services.blob_images)


def _account(account: BlobAccount, settings: Settings) -> Iterator[Check]:
    names = [*settings.blob_containers, *filter(None, [settings.models_container])]
    probes = [probe(account, name) for name in names or ["taxonomist-doctor"]]
    yield passed("storage account", f"{account.account} answers at {account.url}")
    yield _clock(probes[0])
    for name, seen in zip(names, probes, strict=False):
        if name == settings.models_container:
            continue
        if seen.refused:
            yield failed(f"Blob container {name}", "may not be read", _RIGHTS)
        elif seen.exists:
            yield passed(f"Blob container {name}", "exists and may be read")
        else:
            yield failed(f"Blob container {name}", "does not exist", "correct TAXONOMIST_BLOB_CONTAINERS")


def _clock(seen: BlobProbe) -> Check:
    skew = seen.skew_s
    if skew is None or abs(skew) < SOME_SKEW_S:
        return passed("clock", "agrees with Azure's")
    detail = f"is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} Azure's"
    if abs(skew) < MUCH_SKEW_S:
        return warned("clock", detail, _CLOCK)
    return failed("clock", f"{detail}: links to images are not valid yet or have expired", _CLOCK)


def _models(account: BlobAccount, settings: Settings) -> Iterator[Check]:
    container = settings.models_container
    if container is None:
        return
    name, found = f"models container {container}", probe(account, container)
    if found.refused:
        yield failed(name, "may not be read", _RIGHTS)
    elif not found.exists:
        yield warned(
            name,
            "does not exist yet",
            f"az storage container create --name {container}, or train: the first model creates it",
        )
    elif not write_and_delete(account, container):
        yield failed(name, "may not be written", "assign the role Storage Blob Data Contributor on it")
    else:
        yield passed(name, "exists and may be written")


def _image(services: Services, images: BlobImages) -> Check:
    name = "image in Azure"
    try:
        documents = islice(services.catalog.documents(), MAX_DOCUMENTS)
        uri = next((uri for document in documents for uri in _addresses(document) if images.owns(uri)), None)
        if uri is None:
            return passed(name, f"the first {MAX_DOCUMENTS} documents of the catalogue have no image in Azure")
        image = decode_image(images.read(uri), max_pixels=services.settings.max_image_pixels)
    except TaxonomistError as error:
        return failure(name, error, "check the image's address and the right to read its container")
    return passed(name, f"{uri.partition('?')[0]} can be read ({image.width}×{image.height})")


def _addresses(document: ImageDocument) -> list[str]:
    return [*(labels.uri for labels in document.projects.values()), *filter(None, [document.uri_orig])]
