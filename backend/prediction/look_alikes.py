"""The labelled images that look most like a given one.

Images that show faces or personal data are left out, unless TAXONOMIST_ALLOW_PRIVATE is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.prediction.champions import Champions
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.inference.neighbours import Neighbour, nearest
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.paths import TaxonomyPath

REFRESH_S = 5.0  # new labels may be missing from the index for this long


@dataclass(frozen=True)
class LookAlike:
    """A labelled image, its accepted paths by control, and its cosine similarity (-1 to 1) to the given image.

    `unanswered` names the controls that annotators agree to leave empty.
    """

    image_id: str
    uri: str
    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    similarity: float
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Index:
    built_at: float
    stamp: tuple[int, int, str]  # version of the labels, number of embeddings, and version of the projection
    ids: list[str]
    matrix: NDArray[np.float32]
    mean: NDArray[np.float32]  # of the embeddings
    projection: LookAlikeProjection | None
    uris: Mapping[str, str]
    labels: Mapping[str, Mapping[str, tuple[TaxonomyPath, ...]]]
    unanswered: Mapping[str, tuple[str, ...]]

    def nearest(self, vector: NDArray[np.float32], k: int, exclude: Collection[str]) -> list[Neighbour]:
        if not self.ids:
            return []
        query = vector if self.projection is None else self.projection.of(vector[None])[0]
        return nearest(query, self.ids, self.matrix, k, exclude=exclude)


class LookAlikes:
    """Exact search among the labelled images of a project, in the space that its served version has for it."""

    def __init__(self, services: Services, champions: Champions | None = None) -> None:
        self._services = services
        self._champions = champions or Champions(services)
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, str], _Index] = {}

    def nearest(
        self,
        project: str,
        vector: NDArray[np.float32],
        backbone: str,
        *,
        k: int | None = None,
        exclude: str | None = None,
    ) -> list[LookAlike]:
        """Return the `k` labelled images most similar to `vector` (d,), best first; fewer when fewer are labelled."""
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
        """Return what `nearest` returns, without images that may no longer be shown to people.

        The catalogue is read again for each image, since the index may be older than a mark that an image is private.
        """
        hidden = set() if exclude is None else {exclude}
        while True:
            look_alikes = self._nearest(project, vector, backbone, k, hidden)
            ids = [look_alike.image_id for look_alike in look_alikes]
            documents = self._services.catalog.get_many(ids)
            not_allowed = {image for image in ids if not self._may_show(documents.get(image), project)}
            if not not_allowed:
                return look_alikes
            hidden |= not_allowed

    def near_duplicates(
        self, project: str, vector: NDArray[np.float32], backbone: str, images: Sequence[str]
    ) -> set[str]:
        """Return those of `images`, by id, that show nearly the same picture as the one with the embedding (d,).

        Their squared distance, relative to the smaller of the squared lengths after the mean of the labelled images was
        subtracted, is at most the backbone's `near_distance` (see `training.near_duplicates`).
        """
        mean = self._index(project, backbone).mean
        closest = self._services.registry.get(BACKBONE, backbone).backbone_manifest.near_distance
        found, vectors = self._services.embeddings(backbone).get(list(images))
        ids = [image for image, is_embedded in zip(images, found, strict=True) if is_embedded]
        others, own = vectors[found] - mean, vector - mean
        lengths = np.minimum(np.sum(others**2, axis=1), np.sum(own**2))
        near = np.sum((others - own) ** 2, axis=1) <= closest * lengths
        return {image for image, is_near in zip(ids, near.tolist(), strict=True) if is_near}

    def _may_show(self, document: ImageDocument | None, project: str) -> bool:
        return document is not None and project in document.projects and may_use(document, self._services.settings)

    def _nearest(
        self, project: str, vector: NDArray[np.float32], backbone: str, k: int | None, exclude: Collection[str]
    ) -> list[LookAlike]:
        k = k or self._services.settings.neighbours
        index = self._index(project, backbone)
        hits = index.nearest(vector, k, exclude)
        store = self._services.embeddings(backbone)
        if any(hit.id not in store for hit in hits):  # an image was forgotten since
            index = self._index(project, backbone, at_once=True)
            hits = index.nearest(vector, k, exclude)
        return [
            LookAlike(hit.id, index.uris[hit.id], index.labels[hit.id], hit.similarity, index.unanswered[hit.id])
            for hit in hits
        ]

    def _index(self, project: str, backbone: str, *, at_once: bool = False) -> _Index:
        key = (project, backbone)
        model = self._champions.get(project)
        projection = model.look_alikes if model and model.backbone == backbone else None
        stamp = (
            self._services.projects.get(project).labels_version,
            len(self._services.embeddings(backbone)),
            model.version if model and projection else "",
        )
        with self._lock:
            index = self._indexes.get(key)
            is_old = index is not None and index.stamp != stamp and time.monotonic() - index.built_at > REFRESH_S
            if index is None or is_old or at_once:
                index = self._indexes[key] = self._build(project, backbone, stamp, projection)
        return index

    def _build(
        self, project: str, backbone: str, stamp: tuple[int, int, str], projection: LookAlikeProjection | None
    ) -> _Index:
        labels: dict[str, Mapping[str, tuple[TaxonomyPath, ...]]] = {}
        uris: dict[str, str] = {}
        unanswered: dict[str, tuple[str, ...]] = {}
        for document in self._services.catalog.documents(project, labelled=True):
            if not may_use(document, self._services.settings):
                continue
            in_project = document.projects[project]
            labels[document.id] = {control: in_project.paths(control) for control in in_project.accepted}
            uris[document.id] = in_project.uri
            unanswered[document.id] = tuple(in_project.unanswered)
        found, vectors = self._services.embeddings(backbone).get(list(labels))
        ids = [image for image, is_embedded in zip(labels, found, strict=True) if is_embedded]
        matrix = vectors[found] if projection is None else projection.of(vectors[found])
        mean = vectors[found].mean(axis=0) if ids else np.zeros(vectors.shape[1], np.float32)
        return _Index(time.monotonic(), stamp, ids, matrix, mean, projection, uris, labels, unanswered)
