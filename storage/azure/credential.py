"""The credential for Azure when the settings hold no key."""

from __future__ import annotations

from azure.core.credentials_async import AsyncTokenCredential

from taxonomist.storage.network.azure_transport import AzureTransport

__all__ = ["entra_credential"]


def entra_credential() -> AsyncTokenCredential:
    """Return an Entra ID credential: managed identity, environment variables or `az login`. The caller closes it."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - slow to import, needed only without a key

    return DefaultAzureCredential(transport=AzureTransport())
