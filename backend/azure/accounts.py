"""From the settings to Azure. Imported only where a setting asks for it: the SDK takes a second to load."""

from __future__ import annotations

from taxonomist.backend.settings import Settings
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.taxonomy.errors import ConfigError

__all__ = ["blob_account", "cosmos_access", "install_cosmos", "retry_policy"]


def retry_policy(settings: Settings) -> RetryPolicy:
    """How long we wait for Azure. A single attempt may take half of it, so that a second one fits."""
    return RetryPolicy(total_s=settings.azure_timeout, attempt_s=settings.azure_timeout / 2)


def cosmos_access(settings: Settings) -> CosmosAccess:
    """How Cosmos DB is reached. Raises `ConfigError` when no setting, or more than one, says so."""
    text, endpoint, key = settings.cosmos_connection_string, settings.cosmos_endpoint, settings.cosmos_key
    database, containers = settings.cosmos_database, tuple(settings.cosmos_containers)
    if text and (endpoint or key):
        raise ConfigError("Cosmos DB is set twice.", hint="Set cosmos_connection_string, or endpoint and key.")
    if text:
        return CosmosAccess.from_connection_string(text.get_secret_value(), database, containers)
    if endpoint is None:
        raise ConfigError(
            "No setting says where Cosmos DB is.",
            hint="Set TAXONOMIST_COSMOS_CONNECTION_STRING, or TAXONOMIST_COSMOS_ENDPOINT for Entra ID.",
        )
    return CosmosAccess(endpoint, key.get_secret_value() if key else None, database, containers)


def install_cosmos(settings: Settings) -> list[str]:
    """Make what is missing in Cosmos DB; return a line for each step. Raises what `cosmos_access` and `install` do."""
    return install(cosmos_access(settings), retry_policy(settings))


def blob_account(settings: Settings) -> BlobAccount:
    """How the storage account is reached. Raises `ConfigError` when no setting, or more than one, says so."""
    text, url = settings.blob_connection_string, settings.blob_account_url
    if text and url:
        raise ConfigError("The storage account is set twice.", hint="Set blob_connection_string or blob_account_url.")
    if text:
        return BlobAccount.from_connection_string(text.get_secret_value(), retry_policy(settings))
    if url is None:
        raise ConfigError(
            "No setting says where the storage account is.",
            hint="Set TAXONOMIST_BLOB_CONNECTION_STRING, or TAXONOMIST_BLOB_ACCOUNT_URL for Entra ID.",
        )
    return BlobAccount(url, retry_policy(settings))
