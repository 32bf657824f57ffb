"""What the products of a home teach about the look-alikes of a project, and the space that its head may learn in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.storage.embeddings import Embeddings
from taxonomist.taxonomy.groups.projection import ProductScatter
from taxonomist.taxonomy.paths import prefixes
from taxonomist.training.heads.data.dataset import SplitExamples
from taxonomist.training.look_alike_projection import LearnedLookAlikes, ProductVectors, fit_look_alikes
from taxonomist.training.product_space import FEWEST_PRODUCTS, SHARES, TaughtSpace, batches_of, scatter_of

HELD_OUT_SHARE = 0.2  # of the products outside the test parts
MOST_LEARNED = 10_000  # images: more of them hardly change a covariance
MOST_JUDGES_LEARNED = 2_500  # images of the products that are held out without being tested, for the head
MOST_HELD_OUT = 2_000  # images, each compared with all of them
MOST_LABELLED = 5_000


class _Products:
    """The images of the products of all projects.

    A product is named by a project and its name there. Names that one image has in several projects are one product.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._parents: dict[tuple[str, str], tuple[str, str]] = {}
        # The id, the product, whether it is an image of the project, and the hash of its file.
        self._images: list[tuple[str, tuple[str, str], bool, str | None]] = []
        self._tested: set[tuple[str, str]] = set()
        self._tested_files: set[str] = set()

    @classmethod
    def read(cls, services: Services, project: str) -> _Products:
        """Return the products of all documents, which are read once."""
        found = cls(project)
        for document in services.catalog.documents():
            names = [(name, product) for name in document.projects if (product := document.product(name))]
            for name in names:
                found._parents[found._root(name)] = found._root(names[0])
            if any(labels.part == "test" for labels in document.projects.values()):
                found._tested.update(names[:1])
                if document.file_hash:
                    found._tested_files.add(document.file_hash)
            if names and may_use(document, services.settings):
                found._images.append((document.id, names[0], project in document.projects, document.file_hash))
        return found

    def _root(self, name: tuple[str, str]) -> tuple[str, str]:
        while (parent := self._parents.setdefault(name, name)) != name:
            self._parents[name] = name = self._parents[parent]
        return name

    def parts(self) -> _Parts:
        """Return the images by product. A copy of a tested file teaches nothing, whatever product it shows.

        The products are in the order of a hash, which also draws those that are held out beside the tested ones.
        """
        tested = {self._root(name) for name in self._tested}
        found: tuple[dict[tuple[float, str], list[str]], ...] = ({}, {}, {})
        teach, untested, judges = found
        for image, name, of_project, file_hash in self._images:
            root = self._root(name)
            key = "\0".join(root)
            share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
            if root not in tested and file_hash not in self._tested_files:
                (teach if share >= HELD_OUT_SHARE else untested).setdefault((share, key), []).append(image)
            if of_project and (root in tested or share < HELD_OUT_SHARE):
                judges.setdefault((share, key), []).append(image)
        shares = {
            product: _share("\0".join(self._root((source, product))))
            for source, product in list(self._parents)
            if source == self._project
        }
        in_order = [{key: images[share, key] for share, key in sorted(images)} for images in found]
        return _Parts(in_order[0], in_order[1], in_order[2], shares)


def _share(product: str) -> int:
    """Return the share of the products to which one belongs (`TaughtSpace.shares`)."""
    return int(hashlib.sha256(product.encode()).hexdigest()[8:16], 16) % SHARES


@dataclass(frozen=True)
class _Parts:
    """Images by product: those that teach, those held out without being tested, and those of the project that judge.

    `shares` has the share of each product of the project.
    """

    teach: dict[str, list[str]]
    untested: dict[str, list[str]]
    judges: dict[str, list[str]]
    shares: dict[str, int]


@dataclass(frozen=True)
class TaughtByProducts:
    """What products teach a version without labels: its look-alikes, and the space in which its head may learn."""

    look_alikes: LearnedLookAlikes | None = None
    space: TaughtSpace | None = None


def learn_from_products(
    services: Services, project: str, split: SplitExamples, embeddings: Embeddings, *, for_head: bool
) -> TaughtByProducts:
    """Return the projection of the project's look-alikes, as `fit_look_alikes` does, and with `for_head` the space.

    Both are learned from the products of all projects, none of which has an image in any test part. A fifth of them,
    and those that are tested, are held out of the projection; those of them that the project has judge it. The space is
    judged by labels, so the fifth teaches it, too; for the predictions of models without their products there is one
    without each share of the products. The documents are read once, and only where the project has labels of enough
    products. At most `MOST_LEARNED` embeddings teach the projection, and `MOST_JUDGES_LEARNED` besides the space.
    """
    nodes = {
        example.id: {
            (control, *node) for control, paths in example.labels.items() for path in paths for node in prefixes(path)
        }
        for example in split.usable
    }
    if len({example.group for example in split.usable if example.group}) < FEWEST_PRODUCTS:
        return TaughtByProducts()
    parts = _Products.read(services, project).parts()

    def images(chosen: Sequence[tuple[str, str]]) -> ProductVectors:
        found, vectors = embeddings.get([image for _, image in chosen])
        found &= np.isfinite(vectors).all(axis=1)
        kept = [pair for pair, is_found in zip(chosen, found, strict=True) if is_found]
        return ProductVectors(
            vectors[found], [product for product, _ in kept], [nodes.get(image, set()) for _, image in kept]
        )

    def scatter(batches: Iterable[Sequence[tuple[str, str]]]) -> ProductScatter | None:
        return scatter_of((found.embeddings, found.products) for found in map(images, batches))

    teachers = list(batches_of(parts.teach, MOST_LEARNED))
    taught = scatter(teachers)
    space = None
    if for_head:
        more = list(batches_of(parts.untested, MOST_JUDGES_LEARNED))
        others_taught = scatter(more)
        pairs = [pair for batch in (*teachers, *more) for pair in batch]
        by_share = (scatter([[pair for pair in pairs if _share(pair[0]) == share]]) for share in range(SHARES))
        both = taught + others_taught if taught and others_taught else taught or others_taught
        space = TaughtSpace.of(both, by_share, parts.shares)
    judges = {image for some in parts.judges.values() for image in some}
    others = [example.id for example in split.usable if example.id not in judges]
    others.sort(key=lambda image: hashlib.sha256(image.encode()).digest())
    held_out = {product: sorted(some, key=lambda image: image not in nodes) for product, some in parts.judges.items()}
    look_alikes = fit_look_alikes(
        taught,
        images([pair for batch in batches_of(held_out, MOST_HELD_OUT) for pair in batch]),
        images([("", image) for image in others[:MOST_LABELLED]]),
    )
    return TaughtByProducts(look_alikes, space)
