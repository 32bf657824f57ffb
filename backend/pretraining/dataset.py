"""The data of a pre-training: the images that it sees, their groups, and those that score it.

Products of the test part of any project take no part. Of the other products a tenth is held out: the images of these
products are not trained on either, and they alone choose the best moment.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from taxonomist.backend.pretraining.prepared_images import wanted_images
from taxonomist.backend.pretraining.state import pretraining_folder, read_state, write_state
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.training.near_duplicates import near_duplicates_of_unknown
from taxonomist.training.pretraining.probe import Probe

log = logging.getLogger(__name__)

HELD_OUT = 0.1  # of the products that are not tested
MOST_PROBE_IMAGES = 1000  # of each kind; scoring an image costs as much time as training on it
FEWEST_PROBE_IMAGES = 20  # with fewer images the score would be noise
_COVERED = 0.8  # of the labelled images: how many a level must tell apart to be probed
FILE, FORMER_FILE = "images.json", "pictures.json"


class ProbeImage(BaseModel, frozen=True):
    """An image of the probe: its class, its product, and whether that is held out or teaches the linear probe."""

    id: str
    label: str | None
    group: str | None
    held_out: bool = False


class RunData(BaseModel, frozen=True):
    """The data of one run. It is stored, so that a run that is resumed continues with the same images.

    `groups` has the product or report of each id where the catalogue names one. It is empty when the recipe does not
    use groups. `tested` and `held_out` count the images that take no part; `tested` is None in the data of an earlier
    release, which trained on them.
    """

    ids: list[str]
    groups: list[str | None] = []
    probe: list[ProbeImage] = []
    tested: int | None = None
    held_out: int = 0


@dataclass(frozen=True)
class _Image:
    """What the catalogue knows of an image: its product, all names that products of it have, and its label."""

    id: str
    group: str | None
    names: frozenset[str]
    label: tuple[str, ...]
    is_test: bool


def choose_images(services: Services, store: PreparedImageStore, *, grouped: bool, fetched: bool = False) -> RunData:
    """Return the data of a new run: those prepared images that are wanted today, in the order of the store.

    With `fetched`, a query has chosen the images of the store, and all take part that are neither tested nor held out.
    An image without a product counts alone, or with its near-duplicates. Nothing is held out where a tenth of the
    products is too little to tell.
    """
    ids = [id for id in store.snapshot()[0] if id]  # the others were forgotten
    wanted = set(ids) if fetched else {source.id for source in wanted_images(services)}
    known = _read_catalogue(services)
    products = _products(services, known)
    tested = {product for id, image in known.items() if image.is_test for product in (*image.names, products[id])}
    usable, left_out = [], 0
    for id in ids:
        if id not in wanted:
            continue
        if id in known and not tested.isdisjoint({*known[id].names, products[id]}):
            left_out += 1
        else:
            usable.append(id)
    product_of = {id: products.get(id, id) for id in usable}
    images = {id: known.get(id) or _Image(id, None, frozenset(), (), False) for id in usable}
    held_out = {id for id, product in product_of.items() if is_held_out(product)}
    probe = _choose_probe([images[id] for id in usable], product_of, held_out)
    if not probe:
        held_out = set()
        log.info("nothing is held out, since a tenth of the products is too little; the last weights count as the best")
    ids = [id for id in usable if id not in held_out]
    groups = [images[id].group for id in ids] if grouped else []
    log.info(
        "%d images are trained on; %d of products in a test part and %d that are held out take no part",
        len(ids),
        left_out,
        len(held_out),
    )
    return RunData(ids=ids, groups=groups, probe=probe, tested=left_out, held_out=len(held_out))


def is_held_out(product: str) -> bool:
    """Return whether a product is of the tenth that is held out, by a hash of its name."""
    return int(hashlib.sha256(f"held out:{product}".encode()).hexdigest()[:8], 16) < HELD_OUT * 2**32


def write_data(home: Path, data: RunData) -> None:
    """Store the data of the run."""
    write_state(pretraining_folder(home) / FILE, data)


def read_data(home: Path) -> RunData | None:
    """Return the data of the run, also from a file with the former name. Raises `DamagedError`."""
    folder = pretraining_folder(home)
    return read_state(folder / FILE, RunData) or read_state(folder / FORMER_FILE, RunData)


def images_and_rows(store: PreparedImageStore, ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all images of the store (m, s, s, 3) and the rows (n,) of these ids. Ids that it lacks have no row.

    An image that was forgotten since the run began has the id "" and a row of zeros.
    """
    stored_ids, images = store.snapshot()
    row_of = {id: row for row, id in enumerate(stored_ids)}
    return images, np.array([row_of[id] for id in ids if id in row_of], np.int64)


def group_numbers(data: RunData) -> NDArray[np.int64] | None:
    """Return a number for each image (n,), equal within a group, -1 without a group; None if there are no groups."""
    if not any(group is not None for group in data.groups):
        return None
    number = {group: at for at, group in enumerate(sorted({group for group in data.groups if group is not None}))}
    return np.array([-1 if group is None else number[group] for group in data.groups], np.int64)


def build_probe(data: RunData, store: PreparedImageStore) -> Probe | None:
    """Return the images that choose the best moment; None when there are too few."""
    is_stored, images = store.get([image.id for image in data.probe])
    probe = [image for image, stored in zip(data.probe, is_stored, strict=True) if stored]
    if len(probe) < FEWEST_PROBE_IMAGES:
        return None
    labels = {label: at for at, label in enumerate(sorted({image.label for image in probe if image.label}))}
    # An image without a group is a group of its own.
    names = [image.group if image.group is not None else f"\0{image.id}" for image in probe]
    groups = {name: at for at, name in enumerate(sorted(set(names)))}
    return Probe(
        images[is_stored],
        np.array([labels[image.label] if image.label else -1 for image in probe], np.int64),
        np.array([groups[name] for name in names], np.int64),
        np.array([image.held_out for image in probe], np.bool_),
    )


def _read_catalogue(services: Services) -> dict[str, _Image]:
    """Return all images of the catalogue. Their labels are those of the project that has the most."""
    counts = {record.project: services.catalog.count(record.project, labelled=True) for record in services.projects}
    project = max(counts, key=lambda name: counts[name], default=None)
    found = {}
    for document in services.catalog.documents():
        labels = document.projects.get(project) if project else None
        names = {known.group for known in document.projects.values()} | {document.servicereport_filename}
        found[document.id] = _Image(
            document.id,
            _group(document),
            frozenset(name for name in names if name),
            _label(labels) if labels else (),
            bool(document.sortout_testset)
            or any(known.part == "test" for known in document.projects.values())
            or "test" in document.former_parts.values(),
        )
    return found


def _products(services: Services, known: Mapping[str, _Image]) -> dict[str, str]:
    """Return the product of each image; that of an image without one stands for it and its near-duplicates."""
    near: dict[str, str] = {}
    if backbone := services.backbone():
        groups = {id: image.group for id, image in known.items()}
        near = near_duplicates_of_unknown(
            groups, services.embeddings(backbone.version), backbone.backbone_manifest.near_distance
        )
    return {id: image.group or near.get(id, id) for id, image in known.items()}


def _choose_probe(images: Sequence[_Image], product_of: Mapping[str, str], held_out: set[str]) -> list[ProbeImage]:
    """Return held-out images, whole products of them, and labelled ones of other products, evenly spaced.

    Empty when they are too few for a score.
    """
    apart = [image for image in images if image.id in held_out]
    size = Counter(product_of[image.id] for image in apart)
    shown = [image for image in apart if size[product_of[image.id]] > 1]
    if len(shown) < FEWEST_PROBE_IMAGES or len({product_of[image.id] for image in shown}) < 2:
        shown = []
    names = sorted({product_of[image.id] for image in shown}, key=lambda name: hashlib.sha256(name.encode()).digest())
    taken, count = set(), 0
    for name in names:
        if count + size[name] <= MOST_PROBE_IMAGES:
            taken.add(name)
            count += size[name]
    learning = [image for image in images if image.id not in held_out and image.label]
    asking = [image for image in apart if image.label]
    depth = _depth(learning, asking, product_of)
    if depth:
        learning, asking = _evenly(learning), _evenly(asking)
    else:
        learning, asking = [], []
    asked = {image.id for image in asking}
    chosen = [image for image in apart if product_of[image.id] in taken or image.id in asked]
    if not chosen:
        return []
    return [
        ProbeImage(
            id=image.id,
            label=" / ".join(image.label[:depth]) if depth and len(image.label) >= depth else None,
            group=product_of[image.id],
            held_out=image.id in held_out,
        )
        for image in (*learning, *chosen)
    ]


def _depth(learning: Sequence[_Image], asking: Sequence[_Image], product_of: Mapping[str, str]) -> int:
    """Return the deepest level at which most images have a class of at least two products; 0 when there is none."""
    if min(len(learning), len(asking)) < FEWEST_PROBE_IMAGES:
        return 0
    deepest = max(len(image.label) for image in asking)
    for depth in range(deepest, 0, -1):
        products: dict[tuple[str, ...], set[str]] = {}
        for image in (*learning, *asking):
            products.setdefault(image.label[:depth], set()).add(product_of[image.id])
        classes = {label for label, shown in products.items() if len(label) == depth and len(shown) > 1}
        taught = classes & {image.label[:depth] for image in learning} & {image.label[:depth] for image in asking}
        covered = sum(image.label[:depth] in taught for image in asking)
        if len(taught) > 1 and covered >= _COVERED * len(asking):
            return depth
    return 0


def _evenly(images: list[_Image]) -> list[_Image]:
    return images[:: -(-len(images) // MOST_PROBE_IMAGES) or 1]


def _label(labels: ProjectLabels) -> tuple[str, ...]:
    """Return the first accepted path, empty without one."""
    return next((tuple(path) for paths in labels.accepted.values() for path in paths), ())


def _group(document: ImageDocument) -> str | None:
    products = (labels.group for labels in document.projects.values() if labels.group)
    return next(products, None) or document.servicereport_filename
