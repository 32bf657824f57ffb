"""The data of a pre-training: the images that it sees, their groups, and the labelled images that score it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from taxonomist.backend.pretraining.prepared_images import wanted_images
from taxonomist.backend.pretraining.state import pretraining_folder, read_state, write_state
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.training.pretraining.probe import Probe

MOST_PROBE_IMAGES = 1000  # scoring an image costs as much time as training on it
FEWEST_PROBE_IMAGES = 20  # with fewer labelled images the score would be noise
FILE, FORMER_FILE = "images.json", "pictures.json"


class ProbeImage(BaseModel, frozen=True):
    """A labelled image of the probe: its class, and the product or report that it belongs to."""

    id: str
    label: str
    group: str | None


class RunData(BaseModel, frozen=True):
    """The data of one run. It is stored, so that a run that is resumed continues with the same images.

    `groups` has the product or report of each id where the catalogue names one. It is empty when the recipe does not
    use groups.
    """

    ids: list[str]
    groups: list[str | None] = []
    probe: list[ProbeImage] = []


def choose_images(services: Services, store: PreparedImageStore, *, grouped: bool, fetched: bool = False) -> RunData:
    """Return the data of a new run: those prepared images that are wanted today, in the order of the store.

    With `fetched`, a query has chosen the images of the store, and all of them take part.
    """
    ids = [id for id in store.snapshot()[0] if id]  # the others were forgotten
    wanted = set(ids) if fetched else {source.id for source in wanted_images(services)}
    ids = [id for id in ids if id in wanted]
    groups: list[str | None] = []
    if grouped:
        known = {document.id: _group(document) for document in services.catalog.documents() if document.id in wanted}
        groups = [known.get(id) for id in ids]
    return RunData(ids=ids, groups=groups, probe=_choose_probe(services, set(ids)))


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
    """Return the labelled images that choose the best checkpoint; None when there are too few."""
    is_stored, images = store.get([image.id for image in data.probe])
    probe = [image for image, stored in zip(data.probe, is_stored, strict=True) if stored]
    if len(probe) < FEWEST_PROBE_IMAGES:
        return None
    labels = {label: at for at, label in enumerate(sorted({image.label for image in probe}))}
    # An image without a group is a group of its own.
    names = [image.group if image.group is not None else f"\0{image.id}" for image in probe]
    groups = {name: at for at, name in enumerate(sorted(set(names)))}
    return Probe(
        images[is_stored],
        np.array([labels[image.label] for image in probe], np.int64),
        np.array([groups[name] for name in names], np.int64),
    )


def _choose_probe(services: Services, prepared: set[str]) -> list[ProbeImage]:
    """Return images of the project with the most labels, evenly spaced.

    Images of the test part are excluded: they decide later whether the backbone is promoted.
    """
    counts = {record.project: services.catalog.count(record.project, labelled=True) for record in services.projects}
    project = max(counts, key=lambda name: counts[name], default=None)
    if project is None:
        return []
    images = []
    for document in services.catalog.documents(project, labelled=True):
        labels = document.projects[project]
        label = _label(labels)
        if label and labels.part != "test" and document.id in prepared:
            images.append(ProbeImage(id=document.id, label=label, group=_group(document)))
    common = {label for label, count in Counter(image.label for image in images).items() if count > 1}
    images = [image for image in images if image.label in common]
    step = -(-len(images) // MOST_PROBE_IMAGES) or 1
    return images[::step] if len(images) >= FEWEST_PROBE_IMAGES and len(common) > 1 else []


def _label(labels: ProjectLabels) -> str:
    """Return the first accepted path, "" without one."""
    return next((" / ".join(path) for paths in labels.accepted.values() for path in paths), "")


def _group(document: ImageDocument) -> str | None:
    products = (labels.group for labels in document.projects.values() if labels.group)
    return next(products, None) or document.servicereport_filename
