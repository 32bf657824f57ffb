"""Who we are for Azure where no key is given."""

from __future__ import annotations

from azure.core.credentials_async import AsyncTokenCredential

__all__ = ["entra_credential"]


def entra_credential() -> AsyncTokenCredential:
    """Entra ID by what is there: managed identity, environment variables, `az login`. To be closed by the caller."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - slow to import, needed only without a key

    return DefaultAzureCredential()
