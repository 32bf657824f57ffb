"""Which pictures a pre-training sees, and which labelled ones tell it how it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from taxonomist.backend.pretraining.prepared_images import wanted_images
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.prepared_images import PreparedImageStore
from taxonomist.training.pretraining.probe import Probe

PROBE = 1000  # pictures at most: each look at them costs as much as training on them
FEWEST = 20  # labelled pictures, below which a score would be noise


class Labelled(BaseModel, frozen=True):
    """A picture of the probe: its class, and the product or report that it belongs to."""

    id: str
    label: str
    group: str | None


class Chosen(BaseModel, frozen=True):
    """The data of one run, kept, so that a run which goes on in another sitting goes on with the same ones.

    `groups` has the product or report of each id where the catalogue names one; it is empty unless they were asked for.
    """

    ids: list[str]
    groups: list[str | None] = []
    probe: list[Labelled] = []


def choose(services: Services, store: PreparedImageStore, *, grouped: bool, fetched: bool = False) -> Chosen:
    """Of the prepared pictures those that are wanted today, in the order of the store; all of those that a query has
    `fetched`."""
    ids = store.snapshot()[0]
    wanted = set(ids) if fetched else {picture.id for picture in wanted_images(services)}
    ids = [id for id in ids if id in wanted]
    groups: list[str | None] = []
    if grouped:
        known = {document.id: _group(document) for document in services.catalog.documents() if document.id in wanted}
        groups = [known.get(id) for id in ids]
    return Chosen(ids=ids, groups=groups, probe=_choose_probe(services, set(ids)))


def pictures_of(store: PreparedImageStore, ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All pictures of the store (m, s, s, 3), and the rows (n,) of these ids."""
    kept, pictures = store.snapshot()
    row = {id: number for number, id in enumerate(kept)}
    return pictures, np.array([row[id] for id in ids if id in row], np.int64)


def groups_of(chosen: Chosen) -> NDArray[np.int64] | None:
    """A number for each picture (n,), the same for pictures of one group, -1 without a group; None when there are no
    groups."""
    if not any(group is not None for group in chosen.groups):
        return None
    number = {group: at for at, group in enumerate(sorted({group for group in chosen.groups if group is not None}))}
    return np.array([-1 if group is None else number[group] for group in chosen.groups], np.int64)


def probe_of(chosen: Chosen, store: PreparedImageStore) -> Probe | None:
    """The labelled pictures by which the best checkpoint is chosen; None where there are too few."""
    there, pictures = store.get([each.id for each in chosen.probe])
    kept = [each for each, found in zip(chosen.probe, there, strict=True) if found]
    if len(kept) < FEWEST:
        return None
    labels = {label: at for at, label in enumerate(sorted({each.label for each in kept}))}
    # One without a group is a group of its own.
    names = [each.group if each.group is not None else f"\0{each.id}" for each in kept]
    groups = {name: at for at, name in enumerate(sorted(set(names)))}
    return Probe(
        pictures[there],
        np.array([labels[each.label] for each in kept], np.int64),
        np.array([groups[name] for name in names], np.int64),
    )


def _choose_probe(services: Services, prepared: set[str]) -> list[Labelled]:
    """Pictures of the project with the most labels, evenly taken. Those kept for testing have to judge the outcome, so
    they have no part in it."""
    counts = {each.project: services.catalog.count(each.project, labelled=True) for each in services.projects}
    project = max(counts, key=lambda name: counts[name], default=None)
    if project is None:
        return []
    found = []
    for document in services.catalog.documents(project, labelled=True):
        here = document.projects[project]
        label = _label(here)
        if label and here.part != "test" and document.id in prepared:
            found.append(Labelled(id=document.id, label=label, group=_group(document)))
    common = {label for label, count in Counter(each.label for each in found).items() if count > 1}
    found = [each for each in found if each.label in common]
    step = -(-len(found) // PROBE) or 1
    return found[::step] if len(found) >= FEWEST and len(common) > 1 else []


def _label(here: ProjectLabels) -> str:
    """The first accepted path."""
    return next((" / ".join(path) for paths in here.accepted.values() for path in paths), "")


def _group(document: ImageDocument) -> str | None:
    products = (here.group for here in document.projects.values() if here.group)
    return next(products, None) or document.servicereport_filename
