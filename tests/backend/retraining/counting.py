"""Counts how often images are read, decoded and embedded, and how often catalogue and split are asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.backend.services import Services
from taxonomist.inference import image_decoding, pipeline
from taxonomist.inference.embedder import Embedder
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.images import Images
from taxonomist.training.heads.data import dataset


@dataclass
class Counts:
    """Counts reads by address, decodings by sha256 of the file, embeddings by length and sha256 of the pixels."""

    reads: Counter[str] = field(default_factory=Counter)
    decodes: Counter[str] = field(default_factory=Counter)
    embeddings: Counter[str] = field(default_factory=Counter)
    listings: int = 0
    usable: int = 0
    splits: int = 0

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]


def count_work(services: Services, monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Return counts that grow with each read, decoding, embedding, listing of the catalogue, and split."""
    counts, lock = Counts(), threading.Lock()
    images, decode, embed = services.images, image_decoding.decoded, Embedder.embed
    documents, usable, assign = services.catalog.documents, dataset.usable_examples, dataset.assign_parts

    class CountingImages:
        def __init__(self, inner: Images) -> None:
            self._inner = inner

        def read(self, uri: str) -> bytes:
            with lock:
                counts.reads[uri] += 1
            return self._inner.read(uri)

    def counting_decode(data: bytes, **options: Any) -> Any:
        with lock:
            counts.decodes[sha256(data).hexdigest()] += 1
        return decode(data, **options)

    def counting_embed(self: Embedder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with lock:
            counts.embeddings.update(f"{self.dimension} {sha256(image.tobytes()).hexdigest()}" for image in pixels)
        return embed(self, pixels)

    def counting_documents(*arguments: Any, **options: Any) -> Iterator[ImageDocument]:
        counts.listings += 1
        return documents(*arguments, **options)

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            setattr(counts, name, getattr(counts, name) + 1)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(services, "images", lambda project: CountingImages(images(project)))
    monkeypatch.setattr(pipeline, "decoded", counting_decode)
    monkeypatch.setattr(Embedder, "embed", counting_embed)
    monkeypatch.setattr(services.catalog, "documents", counting_documents)
    monkeypatch.setattr(dataset, "usable_examples", counting("usable", usable))
    monkeypatch.setattr(dataset, "assign_parts", counting("splits", assign))
    return counts
