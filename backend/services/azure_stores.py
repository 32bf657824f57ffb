"""The implementations in Azure: catalogue, models, embeddings and images, where the settings name them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taxonomist.backend.extras import require
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog import Catalog
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import Registry

if TYPE_CHECKING:  # Azure's SDK takes long to import, and only some installations use it
    from taxonomist.storage.azure.blob_account import BlobAccount
    from taxonomist.storage.embeddings.blob import KnownSegments
    from taxonomist.storage.images.blob import BlobImages


class AzureStores:
    """Opens stores in Azure. Every method raises `ConfigError` without the extra azure, or without an account."""

    def __init__(self, settings: Settings, home: Callable[[], Path], closing: ExitStack) -> None:
        """`home` gives the home folder, for copies on this machine; `closing` gets what closes the connections."""
        self._settings = settings
        self._home = home
        self._closing = closing

    @property
    def has_catalog(self) -> bool:
        """Whether the settings move the catalogue to Cosmos DB."""
        return bool(self._settings.cosmos_connection_string or self._settings.cosmos_endpoint)

    def catalog(self) -> Catalog:
        """Return the catalogue in Cosmos DB."""
        require("azure")
        from taxonomist.backend.azure.accounts import cosmos_access, retry_policy  # noqa: PLC0415 - the extra azure
        from taxonomist.storage.catalog.cosmos import CosmosCatalog  # noqa: PLC0415 - the extra azure

        documents = CosmosCatalog(cosmos_access(self._settings), retry_policy(self._settings))
        self._closing.callback(documents.close)
        return documents

    @cached_property
    def blob_account(self) -> BlobAccount:
        """The storage account of the settings."""
        require("azure")
        from taxonomist.backend.azure.accounts import blob_account  # noqa: PLC0415 - the extra azure

        account = blob_account(self._settings)
        self._closing.callback(account.close)
        return account

    @cached_property
    def blob_images(self) -> BlobImages | None:
        """The images in Azure, None where no storage account is set."""
        return self.open_blob_images(self._settings.image_cache_bytes)

    def open_blob_images(self, cache_bytes: int) -> BlobImages | None:
        """Return a reader of the images in Azure that keeps `cache_bytes` of them, None without a storage account."""
        settings = self._settings
        if not settings.blob_connection_string and not settings.blob_account_url:
            return None
        require("azure")
        from taxonomist.storage.images.blob import BlobImages  # noqa: PLC0415 - the extra azure

        return BlobImages(
            self.blob_account,
            self._folder / "images",
            max_bytes=settings.max_image_bytes,
            cache_bytes=cache_bytes,
            timeout_s=settings.image_timeout,
            containers=settings.blob_containers,
        )

    def registry(self, container: str) -> Registry:
        """Return the registry in a container of the storage account."""
        require("azure")
        from taxonomist.storage.registry.blob import BlobRegistry  # noqa: PLC0415 - the extra azure

        registry = BlobRegistry(self.blob_account, container, self._folder / "models" / container)
        self._closing.callback(registry.close)
        return registry

    def embeddings(self, container: str, backbone: str, dimension: int) -> Embeddings:
        """Return the embeddings of one backbone version, shared through a container of the storage account."""
        require("azure")
        from taxonomist.storage.embeddings.blob import BlobEmbeddings  # noqa: PLC0415 - the extra azure

        folder = self._folder / "embeddings" / container / backbone
        shared = BlobEmbeddings(self.blob_account, container, f"embeddings/{backbone}", folder, dimension)
        self._closing.callback(shared.close)
        return shared

    def rename_embeddings(self, container: str, names: Mapping[str, str]) -> None:
        """Give shared embeddings the new names of their images."""
        from taxonomist.storage.embeddings.blob import rename_shared  # noqa: PLC0415 - the extra azure

        rename_shared(self.blob_account, container, "embeddings", names)

    def forget_embeddings(self, container: str, images: Collection[str]) -> int:
        """Remove the shared embeddings of images and return how many."""
        from taxonomist.storage.embeddings.blob import forget_shared  # noqa: PLC0415 - the extra azure

        return forget_shared(self.blob_account, container, "embeddings", images, self._known_segments)

    @cached_property
    def _known_segments(self) -> KnownSegments:
        from taxonomist.storage.embeddings.blob import KnownSegments  # noqa: PLC0415 - the extra azure

        return KnownSegments()

    @property
    def _folder(self) -> Path:
        """The folder of this machine's copies from the storage account; each account has its own."""
        account = hashlib.sha256(self.blob_account.url.encode()).hexdigest()[:8]
        return self._home() / "azure" / f"{self.blob_account.account}-{account}"
