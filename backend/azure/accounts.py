"""Access to Cosmos DB and Blob Storage from the settings. Imported only where a setting needs it: the SDK is slow."""

from __future__ import annotations

from taxonomist.backend.settings import Settings
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.taxonomy.errors import ConfigError

__all__ = ["blob_account", "cosmos_access", "install_cosmos", "retry_policy"]


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return how long a call to Azure may take. One attempt may take half of it, so that there is time for a second."""
    return RetryPolicy(total_s=settings.azure_timeout, attempt_s=settings.azure_timeout / 2)


def cosmos_access(settings: Settings) -> CosmosAccess:
    """Return the address and key of Cosmos DB. Raises `ConfigError` when no setting, or more than one, names them."""
    text, endpoint, key = settings.cosmos_connection_string, settings.cosmos_endpoint, settings.cosmos_key
    database, containers = settings.cosmos_database, tuple(settings.cosmos_containers)
    if text and (endpoint or key):
        raise ConfigError(
            "Cosmos DB is set twice.",
            hint="Set TAXONOMIST_COSMOS_CONNECTION_STRING, or TAXONOMIST_COSMOS_ENDPOINT and TAXONOMIST_COSMOS_KEY.",
        )
    if text:
        return CosmosAccess.from_connection_string(text.get_secret_value(), database, containers)
    if endpoint is None:
        raise ConfigError(
            "No setting names the Cosmos DB account.",
            hint="Set TAXONOMIST_COSMOS_CONNECTION_STRING, or TAXONOMIST_COSMOS_ENDPOINT for Entra ID.",
        )
    return CosmosAccess(endpoint, key.get_secret_value() if key else None, database, containers)


def install_cosmos(settings: Settings) -> list[str]:
    """Make what is missing in Cosmos DB; return a line for each step. Raises what `cosmos_access` and `install` do."""
    return install(cosmos_access(settings), retry_policy(settings))


def blob_account(settings: Settings) -> BlobAccount:
    """Return the storage account. Raises `ConfigError` when no setting, or more than one, names it."""
    text, url = settings.blob_connection_string, settings.blob_account_url
    if text and url:
        raise ConfigError(
            "The storage account is set twice.",
            hint="Set TAXONOMIST_BLOB_CONNECTION_STRING or TAXONOMIST_BLOB_ACCOUNT_URL.",
        )
    if text:
        return BlobAccount.from_connection_string(text.get_secret_value(), retry_policy(settings))
    if url is None:
        raise ConfigError(
            "No setting names the storage account.",
            hint="Set TAXONOMIST_BLOB_CONNECTION_STRING, or TAXONOMIST_BLOB_ACCOUNT_URL for Entra ID.",
        )
    return BlobAccount(url, retry_policy(settings))
