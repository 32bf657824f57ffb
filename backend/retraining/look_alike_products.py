"""What the products of a home teach about the look-alikes of a project."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.storage.embeddings import Embeddings
from taxonomist.taxonomy.paths import prefixes
from taxonomist.training.heads.data.dataset import SplitExamples
from taxonomist.training.look_alike_projection import (
    FEWEST_PRODUCTS,
    LearnedLookAlikes,
    ProductVectors,
    fit_look_alikes,
)

HELD_OUT_SHARE = 0.2  # of the products outside the test parts
MOST_LEARNED = 10_000  # images: more of them hardly change a covariance
MOST_OF_A_PRODUCT = 20
MOST_HELD_OUT = 2_000  # images, each compared with all of them
MOST_LABELLED = 5_000
_BATCH = 1_000


class _Products:
    """The images of the products of all projects.

    A product is named by a project and its name there. Names that one image has in several projects are one product.
    """

    def __init__(self) -> None:
        self._parents: dict[tuple[str, str], tuple[str, str]] = {}
        self._images: list[tuple[str, tuple[str, str], bool]] = []  # whether it is an image of the project
        self._tested: set[tuple[str, str]] = set()

    @classmethod
    def read(cls, services: Services, project: str) -> _Products:
        """Return the products of all documents, which are read once."""
        found = cls()
        for document in services.catalog.documents():
            names = [(name, product) for name in document.projects if (product := document.product(name))]
            for name in names:
                found._parents[found._root(name)] = found._root(names[0])
            if names and any(labels.part == "test" for labels in document.projects.values()):
                found._tested.add(names[0])
            if names and may_use(document, services.settings):
                found._images.append((document.id, names[0], project in document.projects))
        return found

    def _root(self, name: tuple[str, str]) -> tuple[str, str]:
        while (parent := self._parents.setdefault(name, name)) != name:
            self._parents[name] = name = self._parents[parent]
        return name

    def parts(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return the images by product: those that teach, and those of the project that are held out.

        The products are in the order of a hash, which also draws those that are held out beside the tested ones.
        """
        tested = {self._root(name) for name in self._tested}
        teach: dict[tuple[float, str], list[str]] = {}
        held_out: dict[tuple[float, str], list[str]] = {}
        for image, name, of_project in self._images:
            root = self._root(name)
            key = "\0".join(root)
            share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
            if root not in tested and share >= HELD_OUT_SHARE:
                teach.setdefault((share, key), []).append(image)
            elif of_project:
                held_out.setdefault((share, key), []).append(image)
        in_order = [{key: found[share, key] for share, key in sorted(found)} for found in (teach, held_out)]
        return in_order[0], in_order[1]


def learn_look_alikes(
    services: Services, project: str, split: SplitExamples, embeddings: Embeddings
) -> LearnedLookAlikes | None:
    """Return the projection of the project's look-alikes, as `fit_look_alikes` does.

    It is learned from the products of all projects. Products with an image in any test part, and a fifth of the others,
    are held out; those of them that the project has judge it. The documents are read once, and only where the project
    has labels of enough products. At most `MOST_LEARNED` embeddings teach.
    """
    nodes = {
        example.id: {
            (control, *node) for control, paths in example.labels.items() for path in paths for node in prefixes(path)
        }
        for example in split.usable
    }
    if len({example.group for example in split.usable if example.group}) < FEWEST_PRODUCTS:
        return None
    teach, held_out = _Products.read(services, project).parts()

    def images(chosen: Sequence[tuple[str, str]]) -> ProductVectors:
        found, vectors = embeddings.get([image for _, image in chosen])
        found &= np.isfinite(vectors).all(axis=1)
        kept = [pair for pair, is_found in zip(chosen, found, strict=True) if is_found]
        return ProductVectors(
            vectors[found], [product for product, _ in kept], [nodes.get(image, set()) for _, image in kept]
        )

    judges = {image for some in held_out.values() for image in some}
    others = [example.id for example in split.usable if example.id not in judges]
    others.sort(key=lambda image: hashlib.sha256(image.encode()).digest())
    held_out = {product: sorted(some, key=lambda image: image not in nodes) for product, some in held_out.items()}
    return fit_look_alikes(
        map(images, _batches(teach, MOST_LEARNED)),
        images([pair for batch in _batches(held_out, MOST_HELD_OUT) for pair in batch]),
        images([("", image) for image in others[:MOST_LABELLED]]),
    )


def _batches(products: Mapping[str, Sequence[str]], most: int) -> Iterator[list[tuple[str, str]]]:
    """Yield the products with their images, whole products in each batch, until there are `most` images."""
    batch: list[tuple[str, str]] = []
    for product, images in products.items():
        if most <= 0:
            break
        chosen = images[:MOST_OF_A_PRODUCT]
        batch += [(product, image) for image in chosen]
        most -= len(chosen)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
