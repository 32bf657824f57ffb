"""What to label next in a project: the places of images, and how labelled ones were drawn.

Label Studio takes tasks by the score of their prediction, the lowest first (*Uncertainty sampling*, or the column of
the Data Manager). Where a project has an order, the score of a prediction is the place of its task; the probability
stays in the region. A score is never 0.0, which would come before all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from taxonomist.backend.services import Services
from taxonomist.inference.heads.features import features
from taxonomist.inference.pipeline import in_batches
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.kept.draws import Drawn
from taxonomist.taxonomy.labelling_order import is_random_draw, labelling_order

PLACED = 1000
"""The images that have a place of their own. The others share the last one until the next training."""
LAST = 1.0
MOST_ORDERED = 20_000
"""The images that are ordered; of more, the others come last."""
_BATCH = 500


def has_order(services: Services, project: str) -> bool:
    """Return whether the project has an order of labelling."""
    return services.project_settings(project).order != "none"


def places(services: Services, project: str, images: Sequence[Collection[str]]) -> list[float]:
    """Return the place of each task, above 0 and at most 1, from the ids of its images. The lowest comes first."""
    known = services.journal.draws.places(project, {image for ids in images for image in ids})
    return [min((known.get(image, LAST) for image in ids), default=LAST) for ids in images]


def place_images(services: Services, project: str, backbone: str | None) -> None:
    """Store how each labelled image was drawn, and the places of the images that are to be labelled first.

    Images without an embedding by `backbone` come last.
    """
    has_places = services.journal.draws.has_places(project)
    rows: list[tuple[str, str, bool]] = []  # image, product, whether it is annotated
    for documents in in_batches(services.catalog.documents(project), _BATCH):
        store_draws(services, project, documents, by_order=has_places)
        rows += [
            (document.id, document.product(project) or f"image {document.id}", _is_annotated(project, document))
            for document in documents
        ]
    random = np.random.default_rng(services.settings.seed)
    rows = [rows[number] for number in random.permutation(len(rows))[:MOST_ORDERED]]
    first: Mapping[str, float] = {}
    if backbone is not None and rows:
        found, vectors = services.embeddings(backbone).get([image for image, _, _ in rows])
        rows = [row for row, is_found in zip(rows, found, strict=True) if is_found]
        share = services.settings.random_share
        order = labelling_order(
            features(vectors[found]),
            np.unique([product for _, product, _ in rows], return_inverse=True)[1].astype(np.int64),
            np.array([is_annotated for _, _, is_annotated in rows], np.bool_),
            np.array([is_random_draw(project, image, share) for image, _, _ in rows], np.bool_),
            seed=services.settings.seed,
        )
        first = {rows[row][0]: (place + 1) / (PLACED + 1) for place, row in enumerate(order[:PLACED].tolist())}
    services.journal.draws.set_places(project, first)


def forget_places(services: Services, project: str) -> None:
    """Forget the places of a project that has no order any more: what is labelled from now on counts as random.

    How images were drawn that have been labelled since the last training is stored first.
    """
    if services.journal.draws.has_places(project):
        store_draws(services, project, services.catalog.documents(project), by_order=True)
        services.journal.draws.set_places(project, {})


def store_draws(services: Services, project: str, documents: Iterable[ImageDocument], *, by_order: bool) -> None:
    """Store how the annotated ones among the images were drawn, where it is not known.

    With `by_order` the project had places, so an image was drawn at random if it is in the random share, and by the
    order otherwise. Without, it was drawn before there was an order.
    """
    share = services.settings.random_share

    def drawn(image: str) -> Drawn:
        if not by_order:
            return "before"
        return "random" if is_random_draw(project, image, share) else "order"

    for some in in_batches(documents, _BATCH):
        annotated = [document.id for document in some if _is_annotated(project, document)]
        services.journal.draws.add(project, {image: drawn(image) for image in annotated})


def drawn_by_order(services: Services, project: str, documents: Sequence[ImageDocument]) -> frozenset[str]:
    """Return the labelled images that an order has chosen, so that they are no sample of all images."""
    if has_order(services, project):
        store_draws(services, project, documents, by_order=services.journal.draws.has_places(project))
    else:
        forget_places(services, project)
    found: set[str] = set()
    for some in in_batches(documents, _BATCH):
        draws = services.journal.draws.drawn(project, [document.id for document in some])
        found |= {image for image, drawn in draws.items() if drawn == "order"}
    return frozenset(found)


def _is_annotated(project: str, document: ImageDocument) -> bool:
    labels = document.projects[project]
    return labels.labelled or bool(labels.unanswered) or labels.reason not in {None, "not_annotated"}
