"""Everything that keeps state, opened from the settings at its first use."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.services.azure_stores import AzureStores
from taxonomist.backend.services.image_readers import ImageReaders, ImageSource
from taxonomist.backend.services.kept_counts import KeptCounts
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.bulk_labels import BulkActions
from taxonomist.backend.state.credentials import Credentials, load_credentials
from taxonomist.backend.state.isolation import Isolation
from taxonomist.backend.state.jobs import JobTable
from taxonomist.backend.state.project_records import ProjectRecord, ProjectRecords
from taxonomist.backend.state.project_settings import ProjectSettings, effective_settings
from taxonomist.backend.state.suggestions import SuggestionTable
from taxonomist.backend.state.unfilled import UnfilledTasks
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.under_way import UnderWay
from taxonomist.storage.catalog import Catalog
from taxonomist.storage.catalog.sqlite import SqliteCatalog
from taxonomist.storage.embeddings import Embeddings, FolderEmbeddings
from taxonomist.storage.home.old_home import SharedStores
from taxonomist.storage.home.version_file import home_version
from taxonomist.storage.home.versions import open_home
from taxonomist.storage.images import Images
from taxonomist.storage.journal import Journal
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.agreement import AgreementPolicy
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.numbers import is_number

if TYPE_CHECKING:  # Azure's SDK takes long to import, and only some installations use it
    from taxonomist.storage.azure.blob_account import BlobAccount
    from taxonomist.storage.images.blob import BlobImages

BACKBONE = "backbone"


def registry_name(project: str) -> str:
    """Return the name of a project's models in the registry."""
    return f"project-{project}"


class Services:
    """Everything that keeps state, opened at its first use. All threads of a process share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._embeddings: dict[str, Embeddings] = {}
        self._embedders: dict[str, Embedder] = {}
        self._closing = ExitStack()
        self._azure = AzureStores(settings, lambda: self.home, self._closing)
        # By version of the backbone and image id; prediction.embedding uses it.
        self.embedding: UnderWay[tuple[str, str], Any] = UnderWay()
        self.kept_counts = KeptCounts(always=self._azure.has_catalog)

    @cached_property
    def home(self) -> Path:
        """The home folder, which is made or migrated at its first use.

        Raises `DamagedError` for a home of a newer release, `ConfigError` while a worker of an earlier release uses an
        older one, and `StorageError`.
        """
        open_home(self.settings.home, self._shared_stores())
        return self.settings.home

    def open_existing_home(self) -> bool:
        """Open the home folder if there is one, before anything else begins; return whether that migrated it.

        Raises what `home` raises.
        """
        version = home_version(self.settings.home)
        return version is not None and home_version(self.home) != version

    @cached_property
    def credentials(self) -> Credentials:
        return load_credentials(self.settings)

    @cached_property
    def projects(self) -> ProjectRecords:
        return ProjectRecords(self.home / "projects")

    @cached_property
    def catalog(self) -> Catalog:
        if self._azure.has_catalog:
            return self._azure.catalog()
        return SqliteCatalog(self.home / "catalog.sqlite")

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.home / "journal.sqlite")

    @cached_property
    def isolation(self) -> Isolation:
        return Isolation(lambda: self.journal.set_aside)

    @cached_property
    def jobs(self) -> JobTable:
        return JobTable(self.home / "jobs.sqlite")

    @cached_property
    def unfilled(self) -> UnfilledTasks:
        return UnfilledTasks(self.home / "jobs.sqlite")

    @cached_property
    def suggestions(self) -> SuggestionTable:
        return SuggestionTable(self.home / "suggestions.sqlite")

    @cached_property
    def bulk_labels(self) -> BulkActions:
        return BulkActions(self.home)

    @cached_property
    def registry(self) -> Registry:
        if container := self.settings.models_container:
            return self._azure.registry(container)
        return FolderRegistry(self.home / "models")

    @property
    def blob_account(self) -> BlobAccount:
        """The storage account of the settings. Raises `ConfigError` when there is none."""
        return self._azure.blob_account

    @property
    def blob_images(self) -> BlobImages | None:
        """The images in Azure, None where no storage account is set."""
        return self._azure.blob_images

    def _shared_stores(self) -> SharedStores:
        """Return the stores in Azure, for a migration of the home."""
        container = self.settings.models_container
        rename = partial(self._azure.rename_embeddings, container) if container else None
        return SharedStores((lambda: self.catalog) if self._azure.has_catalog else None, rename)

    def label_config(self, project: str) -> LabelConfig:
        """Return the labelling config of a project, with the nodes that a person renamed.

        Raises `ConfigError` when it is not known or has no taxonomy.
        """
        record = self.projects.get(project)
        if not record.label_config and self.projects.exists(project):
            raise ConfigError(
                f"Project {project} has no taxonomy yet: nothing with labels was imported.",
                hint="Import labels, or give --config to `taxonomist import`.",
            )
        if not record.label_config:
            raise ConfigError(
                f"Project {project} is not known.",
                hint="Run `taxonomist connect`, or `taxonomist import` with that name.",
            )
        return record.read_config()

    def project_settings(self, project: str) -> ProjectSettings:
        """Return the settings of a project: those in its record, and the environment's where it has none."""
        return effective_settings(self.projects.get(project).settings, self.settings)

    def agreement(self, project: str) -> AgreementPolicy:
        """Return the rule by which a project's annotations become an accepted label."""
        return self.project_settings(project).policy(self.settings.agreement_policy)

    def backbone(self) -> ModelVersion | None:
        """Return the backbone that embeds new images, None before the worker has made the first one."""
        version = self.registry.champion(BACKBONE)
        return self.registry.get(BACKBONE, version) if version else None

    def embedder(self, backbone: str) -> Embedder:
        """Return the backbone of that version, loaded."""
        with self._lock:
            if backbone not in self._embedders:
                found = self.registry.get(BACKBONE, backbone)
                self.registry.verify(found, BACKBONE_FILE)  # the weights for later trainings are as large again
                self._embedders[backbone] = Embedder(found.path / BACKBONE_FILE, size=found.backbone_manifest.size)
            return self._embedders[backbone]

    def embeddings(self, backbone: str) -> Embeddings:
        """Return the embeddings of one backbone version."""
        with self._lock:
            if backbone not in self._embeddings:
                dimension = self.registry.get(BACKBONE, backbone).backbone_manifest.dimension
                self._embeddings[backbone] = self._open_embeddings(backbone, dimension)
            return self._embeddings[backbone]

    def forget_shared_embeddings(self, images: Collection[str]) -> int:
        """Remove the embeddings of images from Azure, if they are shared there, and return how many."""
        container = self.settings.models_container
        return self._azure.forget_embeddings(container, images) if container else 0

    def _open_embeddings(self, backbone: str, dimension: int) -> Embeddings:
        if container := self.settings.models_container:
            return self._azure.embeddings(container, backbone, dimension)
        return FolderEmbeddings(self.home / "embeddings" / backbone, dimension=dimension)

    def close(self) -> None:
        """Send what is not yet shared and close the connections; call it at the end of a command."""
        self._closing.close()

    def label_studio(self, project: str | None) -> tuple[str | None, str | None]:
        """Return address and token of a project's Label Studio: those that `connect` stored, else the settings'.

        For None, those of the settings.
        """
        record = self.projects.get(project) if project is not None else ProjectRecord(project="")
        settings = self.settings
        url = record.label_studio_url or settings.label_studio_url
        key = record.api_key or settings.label_studio_api_key
        return url, key.get_secret_value() if key else None

    def other_token(self, project: str | None) -> str | None:
        """Return the settings' token where `connect` stored another one for the same Label Studio, else None.

        It counts when Label Studio refuses the stored token: people who revoke a token set the new one there. It is not
        sent to another Label Studio than that of the settings.
        """
        url, token = self.label_studio(project)
        other = self.settings.label_studio_api_key
        if other is None or other.get_secret_value() == token or not self._is_of_settings(url):
            return None
        return other.get_secret_value()

    def label_studio_addresses(self, project: str | None) -> tuple[str, ...]:
        """Return the addresses that a project's Label Studio has besides that of `label_studio`; tasks may have them.

        Those of the settings count for the Label Studio of the settings only.
        """
        url, _ = self.label_studio(project)
        learned = self.projects.get(project).label_studio_addresses if project is not None else ()
        given = self.settings.label_studio_addresses
        return tuple(dict.fromkeys([*learned, *(given if given and self._is_of_settings(url) else ())]))

    def _is_of_settings(self, url: str | None) -> bool:
        """Return whether the settings are about the Label Studio at this address."""
        if (own_url := self.settings.label_studio_url) is not None:
            return url is not None and own_url.rstrip("/") == url.rstrip("/")
        # They name no server, so there must be one only.
        return len({record.label_studio_url.rstrip("/") for record in self.projects if record.label_studio_url}) == 1

    def open_label_studio(self, project: str) -> LabelStudioClient:
        """Return a client for the Label Studio of a project; use it in a `with` block.

        Raises `ConfigError` when address or token are not known.
        """
        url, token = self.label_studio(project)
        if url is None or token is None:
            raise ConfigError(
                f"The address or the token of project {project}'s Label Studio is not known.",
                hint=f"Run `taxonomist connect --url … --api-key … --project {project}`.",
            )
        return LabelStudioClient(url, token, fallback=self.other_token(project))

    @cached_property
    def _image_readers(self) -> ImageReaders:
        readers = ImageReaders(
            self.settings,
            self.home / "images",
            lambda keep: self.blob_images if keep else self._azure.open_blob_images(cache_bytes=0),
        )
        self._closing.callback(readers.close)
        return readers

    def images(self, project: str | None, *, keep: bool = True, with_token: bool = True) -> Images:
        """Return the reader of a project's images: from its folder, Label Studio or allowed hosts, through the cache.

        For None, the reader that the settings alone give. With `keep=False` nothing is added to the cache. Without a
        token, Label Studio is asked for what it shows to everybody.
        """
        url, token = self.label_studio(project)
        source = ImageSource(
            self.projects.get(project).image_folders if project is not None else (),
            url,
            token if with_token else None,
            self.other_token(project) if with_token else None,
            self.label_studio_addresses(project),
            project if project is not None and is_number(project) else None,
            keep,
        )
        return self._image_readers.get(source)
