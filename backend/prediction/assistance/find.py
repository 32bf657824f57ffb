"""Finds what helps a person to label an image: one of a task, or one that a caller passes in."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.labelling.missing_annotators import missing_annotators
from taxonomist.backend.prediction.assistance.assemble import groups_of, offers_of, takes
from taxonomist.backend.prediction.assistance.content import (
    Assistance,
    Offer,
    Offers,
    OffersKind,
    ShownLookAlike,
)
from taxonomist.backend.prediction.embedding import embed, embed_without_storing
from taxonomist.backend.prediction.image_inputs import ImageInput, embed_inputs
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.no_suggestion import Reason, explain_missing
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import image_id
from taxonomist.storage.images import without_query
from taxonomist.taxonomy.errors import ConfigError, ImageUnavailableError, NotFoundError, TaxonomistError
from taxonomist.taxonomy.tree import Tree

log = logging.getLogger(__name__)


def assist(
    services: Services, project: str, image: ImageInput, k: int | None = None, predictor: Predictor | None = None
) -> Assistance:
    """Return the suggestions for an image that a caller passes in, and its `k` look-alikes; nothing is stored.

    `k` defaults to the setting `neighbours`. Raises `NotFoundError` when nothing has been embedded yet, and the error
    of an image that cannot be read.
    """
    predictor = predictor or Predictor(services)
    backbone = predictor.backbone(project)
    if backbone is None:
        raise NotFoundError("No image has been embedded yet.", hint=f"taxonomist embed --project {project}")
    embedded = embed_inputs(services, project, [image], backbone)
    if embedded.errors:
        raise embedded.errors[0]
    return _assistance(services, predictor, project, embedded.vectors[0], backbone, None, k)


def assist_with(
    services: Services, predictor: Predictor, project: str, uri: str, *, submitted: bool = False
) -> Assistance:
    """Return what helps to label the image of a task, by its address. An error is logged, and a reason replaces it.

    An image of a task that is left empty as a sample has nothing, unless the person has `submitted` an annotation: it
    is the browser that says so, since a key does not name a person.
    """
    name = image_id(uri)
    if not submitted and predictor.is_blind(project, name):
        return Assistance(reasons=(Reason.CONTROL_SAMPLE,))
    backbone = predictor.backbone(project)
    if backbone is None:
        return Assistance(reasons=(Reason.NO_LABELS,), waiting=missing_annotators(services, project))
    try:
        vector = _vector(services, predictor, project, uri, backbone)
    except TaxonomistError as error:
        log.warning("look-alikes of %s: %s", without_query(uri), error)
        late = isinstance(error, _LateError)
        return Assistance(reasons=(Reason.LATE_IMAGE if late else Reason.NO_IMAGE,))
    try:
        return _assistance(services, predictor, project, vector, backbone, name)
    except ConfigError as error:
        log.warning("project %s: no assistance: %s", project, error)
        return Assistance(reasons=(Reason.NO_TAXONOMY,))


class _LateError(ImageUnavailableError):
    """The image was not read in time."""


def _vector(services: Services, predictor: Predictor, project: str, uri: str, backbone: str) -> NDArray[np.float32]:
    """Return the embedding (d,) of the image of a task. Raises the error of one that cannot be read."""
    name, deadline = image_id(uri), time.monotonic() + services.settings.image_timeout
    document = services.catalog.get(name)
    if document is not None and project in document.projects:
        uris = {name: document.projects[project].uri}
        embedded = embed(services, project, uris, backbone, deadline=deadline, listed=True)
    else:  # such as the sample that Label Studio shows in the preview of its settings
        known = _address_of_task(services, predictor, project, name)
        embedded = embed_without_storing(
            services, project, {name: known or uri}, backbone, deadline=deadline, with_token=known is not None
        )
    if name in embedded.late:
        raise _LateError(f"The image was not read within {services.settings.image_timeout:g} seconds.")
    if name in embedded.failures:
        raise embedded.failures[name]
    return np.asarray(embedded.vectors[name])


def _address_of_task(services: Services, predictor: Predictor, project: str, image: str) -> str | None:
    """Return the address that an image has in a task, else None: what a browser names is read without the token."""
    for task in services.journal.tasks(project, image):
        for uri in (task.uri, *task.images.values()):
            if image_id(uri) == image:
                return uri
    return predictor.previewed(project, image)


def _assistance(
    services: Services,
    predictor: Predictor,
    project: str,
    vector: NDArray[np.float32],
    backbone: str,
    name: str | None,
    k: int | None = None,
) -> Assistance:
    """Return the assistance for an embedding (d,); `name` is the id of its image, where it is one of a task.

    Raises `ConfigError` when the project's taxonomy is not known.
    """
    found = predictor.look_alikes.shown(project, vector, backbone, k=k, exclude=name)
    trees = _trees_of(services, project, name)
    offers = _offers(predictor, project, trees, vector, name, found)
    groups = groups_of(trees, _shown(services, predictor, project, vector, backbone, name, found))
    offered = {row.control for row in offers}
    names = [name] if name is not None else []
    (missing,) = explain_missing(services, predictor, project, trees, vector[None], [offered], names)
    reasons = [why.reason for why in missing.values()]
    waiting = missing_annotators(services, project) if Reason.NO_LABELS in reasons else None
    images = {tree.control: tree.to_name for tree in trees}
    values = {tree.control: dict(tree.values) for tree in trees if tree.values}
    return Assistance(tuple(offers), tuple(groups), tuple(dict.fromkeys(reasons)), waiting, images, values)


def _trees_of(services: Services, project: str, name: str | None) -> list[Tree]:
    """Return the trees of the controls that label an image; all of them where it is in no task with several images."""
    trees = services.label_config(project).trees
    tasks = services.journal.tasks(project, name) if name is not None else ()
    places = {place for task in tasks for place, uri in task.images.items() if image_id(uri) == name}
    return [tree for tree in trees if not places or tree.to_name in places]


def _offers(
    predictor: Predictor,
    project: str,
    trees: Sequence[Tree],
    vector: NDArray[np.float32],
    name: str | None,
    look_alikes: Sequence[LookAlike],
) -> list[Offers]:
    (suggestions,) = predictor.suggest(project, vector[None], [name] if name is not None else ())
    probabilities = predictor.probabilities(project, vector, name)
    new_nodes = predictor.new_nodes(project, look_alikes)
    offers = []
    for tree in trees:
        if suggestion := suggestions.get(tree.control):
            offers.append(offers_of(tree, suggestion, probabilities.get(tree.control, {})))
        if node := new_nodes.get(tree.control):
            offers.append(Offers(tree.control, OffersKind.NEW_NODE, (Offer(node, None, takes(tree, [node])),)))
    return offers


def _shown(
    services: Services,
    predictor: Predictor,
    project: str,
    vector: NDArray[np.float32],
    backbone: str,
    name: str | None,
    look_alikes: Sequence[LookAlike],
) -> list[tuple[ShownLookAlike, Mapping[str, tuple[tuple[str, ...], ...]]]]:
    ids = [look_alike.image_id for look_alike in look_alikes]
    documents = services.catalog.get_many([*ids, *([name] if name is not None else [])])
    near = predictor.look_alikes.near_duplicates(project, vector, backbone, ids)
    own = documents[name].product(project) if name in documents else None
    shown = []
    for look_alike in look_alikes:
        document = documents.get(look_alike.image_id)
        task = document.projects[project].task_id if document and project in document.projects else None
        is_view = own is not None and document is not None and document.product(project) == own
        task_id = task if task is not None and task.isdecimal() else None
        shown.append(
            (
                ShownLookAlike(
                    look_alike.image_id,
                    look_alike.uri,
                    look_alike.similarity,
                    look_alike.image_id in near,
                    is_view,
                    task_id,
                ),
                look_alike.labels,
            )
        )
    return shown
