"""The other images of an image's product, with which it is predicted together: stored embeddings alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.labelling.products import ProductImage, product_of
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.inference.heads.fusion import MOST_IMAGES

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]

REFRESH_S = 60.0  # a new image of a product may be missing for this long
_MOST_READING = 0.05  # share of the time in which the catalogue is read
_FIRST_WAIT_S = 1.0  # for the first reading; until it has ended, images are predicted alone


@dataclass
class _Index:
    """The images by product, and the product by image; read again from `expires_at`."""

    expires_at: float = 0.0
    images: dict[str, list[str]] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)


class ProductImages:
    """Knows which images of a project show the same product.

    The catalogue is read once, and again after a minute or more, so that a request reads at most `MOST_IMAGES` - 1
    embeddings for each of its images, and no document. Images that show faces or personal data are left out, unless
    TAXONOMIST_ALLOW_PRIVATE is set.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._indexes: dict[str, _Index] = {}
        self._readers: dict[str, threading.Thread] = {}

    def others(
        self, project: str, backbone: str, images: Mapping[str, ProductImage | None], dimension: int
    ) -> list[Vectors]:
        """Return for each image of a request the embeddings (m, d) of other images of its product; (0, d) without any.

        `images` has by id the data of the task and the address, which name the product of an image that the catalogue
        does not know yet. Images of the same request count.
        """
        index = self._index(project)
        named_by = self._services.project_settings(project).product_field
        products: dict[str, str] = {}
        together: dict[str, set[str]] = {}
        for image, shown in images.items():
            product = index.products.get(image) or (product_of(named_by, shown) if named_by and shown else None)
            if product:
                products[image] = product
                together.setdefault(product, set()).add(image)
        chosen = [
            sorted({*index.images.get(products[image], ()), *together[products[image]]} - {image})[: MOST_IMAGES - 1]
            if image in products
            else []
            for image in images
        ]
        wanted = sorted({name for names in chosen for name in names})
        if not wanted:
            return [np.zeros((0, dimension), np.float32) for _ in chosen]
        found, vectors = self._services.embeddings(backbone).get(wanted)
        rows = {name: row for row, name in enumerate(wanted) if found[row]}
        return [vectors[[rows[name] for name in names if name in rows]] for names in chosen]

    def _index(self, project: str) -> _Index:
        """Return the index of a project. A thread reads it: a request waits for the first one, and shortly at most."""
        with self._lock:
            index, reader = self._indexes.get(project), self._readers.get(project)
            if reader is None and (index is None or time.monotonic() >= index.expires_at):
                reader = threading.Thread(target=self._refresh, args=(project,), name="product-images", daemon=True)
                self._readers[project] = reader
                reader.start()
        if index is None and reader is not None:
            reader.join(_FIRST_WAIT_S)
            index = self._indexes.get(project)
        return index or _Index()

    def _refresh(self, project: str) -> None:
        try:
            self._indexes[project] = self._read(project)
        except Exception:
            log.exception("project %s: the images of its products could not be read", project)
        finally:
            del self._readers[project]

    def _read(self, project: str) -> _Index:
        began = time.monotonic()
        index = _Index()
        for document in self._services.catalog.documents(project):
            if (product := document.product(project)) and may_use(document, self._services.settings):
                index.products[document.id] = product
                index.images.setdefault(product, []).append(document.id)
        now = time.monotonic()
        index.expires_at = now + max(REFRESH_S, (now - began) / _MOST_READING)
        return index
