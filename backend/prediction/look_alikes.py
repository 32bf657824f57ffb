"""The labelled images that look most like a given one. None of them shows faces or personal data, unless the settings
allow it."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.inference.neighbours import nearest
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.paths import TaxonomyPath

REFRESH_S = 5.0  # the index may lag behind new labels by this much


@dataclass(frozen=True)
class LookAlike:
    """A labelled image, its accepted paths by control, and its cosine similarity (-1..1) to the one asked for."""

    image_id: str
    uri: str
    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    similarity: float


@dataclass(frozen=True)
class _Index:
    made_at: float
    stamp: tuple[int, int]  # of the labels and the embeddings that it was made from
    ids: list[str]
    matrix: NDArray[np.float32]
    uris: Mapping[str, str]
    labels: Mapping[str, Mapping[str, tuple[TaxonomyPath, ...]]]


class LookAlikes:
    """Exact search among the labelled images of a project."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Index] = {}

    def nearest(
        self,
        project: str,
        vector: NDArray[np.float32],
        backbone: str,
        *,
        k: int | None = None,
        exclude: str | None = None,
    ) -> list[LookAlike]:
        """The k most similar labelled images, best first; fewer when fewer are labelled. `vector` has shape (d,)."""
        return self._nearest(project, vector, backbone, k, () if exclude is None else (exclude,))

    def shown(
        self,
        project: str,
        vector: NDArray[np.float32],
        backbone: str,
        *,
        k: int | None = None,
        exclude: str | None = None,
    ) -> list[LookAlike]:
        """As `nearest`, for people to look at: each document is asked once more, since whoever finds a face in a
        picture tells the catalogue, and not the index."""
        hidden = set() if exclude is None else {exclude}
        while True:
            found = self._nearest(project, vector, backbone, k, hidden)
            documents = self._services.catalog.get_many(each.image_id for each in found)
            gone = {each.image_id for each in found if not self._may_show(documents.get(each.image_id), project)}
            if not gone:
                return found
            hidden |= gone

    def _may_show(self, document: ImageDocument | None, project: str) -> bool:
        return document is not None and project in document.projects and may_use(document, self._services.settings)

    def _nearest(
        self, project: str, vector: NDArray[np.float32], backbone: str, k: int | None, exclude: Collection[str]
    ) -> list[LookAlike]:
        index = self._index(project, backbone)
        if not index.ids:
            return []
        hits = nearest(vector, index.ids, index.matrix, k or self._services.settings.neighbours, exclude=exclude)
        return [LookAlike(hit.id, index.uris[hit.id], index.labels[hit.id], hit.similarity) for hit in hits]

    def _index(self, project: str, backbone: str) -> _Index:
        key = (project, backbone)
        stamp = (self._services.projects.get(project).labels_version, len(self._services.embeddings(backbone)))
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (kept.stamp != stamp and time.monotonic() - kept.made_at > REFRESH_S):
                kept = self._kept[key] = self._build(project, backbone, stamp)
        return kept

    def _build(self, project: str, backbone: str, stamp: tuple[int, int]) -> _Index:
        labels: dict[str, Mapping[str, tuple[TaxonomyPath, ...]]] = {}
        uris: dict[str, str] = {}
        for document in self._services.catalog.documents(project, labelled=True):
            if not may_use(document, self._services.settings):
                continue
            here = document.projects[project]
            labels[document.id] = {control: here.paths(control) for control in here.accepted}
            uris[document.id] = here.uri
        names = list(labels)
        found, vectors = self._services.embeddings(backbone).get(names)
        ids = [name for name, there in zip(names, found, strict=True) if there]
        return _Index(time.monotonic(), stamp, ids, vectors[found], uris, labels)
