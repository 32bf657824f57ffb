"""The composition root: which implementation stands behind each protocol, made from the settings once a process."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import cached_property
from pathlib import Path

from backend.auth import Credentials, load_credentials
from backend.jobs import JobBook
from backend.projects import ProjectBook
from backend.protocol import label_config
from backend.settings import Settings
from storage.catalog import Catalog
from storage.catalog.sqlite import SqliteCatalog
from storage.embeddings import EmbeddingStore
from storage.images import Images
from storage.images.cache import CachedImages
from storage.images.folder import FolderImages
from storage.images.http import HttpImages
from storage.images.label_studio import LabelStudioImages
from storage.images.router import RoutedImages
from storage.journal import Journal
from storage.registry import ModelVersion, Registry
from storage.registry.folder import FolderRegistry
from taxonomy.errors import ConfigError
from taxonomy.label_config import LabelConfig
from training.embedder import Embedder

BACKBONE = "backbone"


def registry_name(project: str) -> str:
    """The name under which the registry keeps a project's models."""
    return f"project-{project}"


class Services:
    """Everything that keeps state, opened when it is first used. Shared by all threads of a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._images: dict[tuple[Path | None, str | None, str | None], Images] = {}
        self._http: HttpImages | None = None
        self._embeddings: dict[str, EmbeddingStore] = {}
        self._embedders: dict[str, Embedder] = {}

    @cached_property
    def credentials(self) -> Credentials:
        return load_credentials(self.settings)

    @cached_property
    def book(self) -> ProjectBook:
        return ProjectBook(self.settings.home / "projects")

    @cached_property
    def catalog(self) -> Catalog:
        return SqliteCatalog(self.settings.home / "catalog.sqlite")

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.settings.home / "journal.sqlite")

    @cached_property
    def jobs(self) -> JobBook:
        return JobBook(self.settings.home / "jobs.sqlite")

    @cached_property
    def registry(self) -> Registry:
        return FolderRegistry(self.settings.home / "models")

    def label_config(self, project: str) -> LabelConfig:
        """The trees of a project. Raises `ConfigError` when it is not known, or has no taxonomy."""
        xml = self.book.get(project).label_config
        if not xml:
            raise ConfigError(
                f"Nothing is known of project {project}.", hint="Connect it, or import a catalogue under that name."
            )
        return label_config(xml)

    def backbone(self) -> ModelVersion | None:
        """The backbone that embeds new images, None before the worker has made the first one."""
        version = self.registry.champion(BACKBONE)
        return self.registry.get(BACKBONE, version) if version else None

    def embedder(self, backbone: str) -> Embedder:
        """The loaded backbone of that version."""
        with self._lock:
            if backbone not in self._embedders:
                found = self.registry.get(BACKBONE, backbone)
                self.registry.verify(found)
                self._embedders[backbone] = Embedder(found.path / "backbone.onnx", size=int(found.manifest["size"]))
            return self._embedders[backbone]

    def embeddings(self, backbone: str) -> EmbeddingStore:
        """The embeddings of one backbone version."""
        with self._lock:
            if backbone not in self._embeddings:
                dimension = int(self.registry.get(BACKBONE, backbone).manifest["dimension"])
                folder = self.settings.home / "embeddings" / backbone
                self._embeddings[backbone] = EmbeddingStore(folder, dimension=dimension)
            return self._embeddings[backbone]

    def label_studio(self, project: str) -> tuple[str | None, str | None]:
        """Address and token for a project: what `connect` remembered, else the settings."""
        record = self.book.get(project)
        settings = self.settings
        url = record.label_studio_url or settings.label_studio_url
        key = record.api_key or settings.label_studio_api_key
        return url, key.get_secret_value() if key else None

    def images(self, project: str) -> Images:
        """How the images of a project are read: from its folder, Label Studio or allowed hosts, through the cache."""
        reach = (self.book.get(project).images_folder, *self.label_studio(project))
        with self._lock:
            if reach not in self._images:
                self._images[reach] = self._open_images(*reach)
            return self._images[reach]

    def _open_images(self, folder: Path | None, url: str | None, token: str | None) -> Images:
        settings = self.settings
        if self._http is None:
            self._http = HttpImages(settings.allowed_image_hosts, settings.max_image_bytes, settings.image_timeout)
        remote = RoutedImages(
            http=self._http,
            label_studio=LabelStudioImages(url, lambda: token or "", self._http) if url else None,
            folder=FolderImages(settings.images_folder, settings.max_image_bytes) if settings.images_folder else None,
        )
        # Two Label Studios may use one path for two images.
        cached = CachedImages(
            remote,
            settings.home / "images" / hashlib.sha256((url or "").encode()).hexdigest()[:8],
            settings.image_cache_bytes,
            skip=remote.is_local,
        )
        return CatalogueFolder(folder, settings.max_image_bytes, cached) if folder else cached


class CatalogueFolder:
    """Images of an imported catalogue, whose addresses are absolute paths under its folder; `others` has the rest."""

    def __init__(self, folder: Path, max_bytes: int, others: Images) -> None:
        self._prefix = f"{folder}{os.sep}"
        self._inside = FolderImages(folder, max_bytes)
        self._others = others

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        if uri.startswith(self._prefix):
            return self._inside.read(uri.removeprefix(self._prefix))
        return self._others.read(uri)
