"""The images of a project by pages, with what is known about each; and all that is known about one.

A page costs the same however many images there are: it begins after the last image of the page before, and all counts
are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qs

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.backend.status.counts import judged_of, nodes_of, states_of
from taxonomist.backend.status.evaluation.images import EvaluatedImages, ids_of
from taxonomist.backend.status.nodes import NodeLabels, nodes_with_labels
from taxonomist.backend.status.overview import label_studio_address
from taxonomist.storage.catalog import Facet, ImageDocument
from taxonomist.storage.catalog.facets import LABELLED, UNANNOTATED, facets_of
from taxonomist.storage.images import without_query
from taxonomist.taxonomy.annotations import parse_annotation
from taxonomist.taxonomy.errors import BadRequestError, ConfigError, NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath

PAGE = 60
_READ_AT_ONCE = 200
MOST_VIEWS = 24
Judged = Literal["right", "wrong"]


@dataclass(frozen=True)
class ImageFilter:
    """Which images: with a label through a node (its control and path), in a state, of a product, whose suggestion an
    accepted label judged, behind a number of the evaluation. None and `()`: all.
    """

    node: tuple[str, ...] = ()
    state: str | None = None
    product: str | None = None
    judged: Judged | None = None
    evaluated: EvaluatedImages | None = None

    @property
    def facets(self) -> list[Facet]:
        """The properties that the catalogue knows, the rarest kind first."""
        found = [Facet("product", (self.product,))] if self.product else []
        found += [Facet("node", self.node)] if self.node else []
        return found + ([Facet("state", (self.state,))] if self.state else [])


@dataclass(frozen=True)
class SuggestedPath:
    """A suggestion of a version for a control. `right` is what the accepted label says, None while there is none."""

    control: str
    version: str
    path: TaxonomyPath
    score: float
    at: datetime
    blind: bool
    right: bool | None


@dataclass(frozen=True)
class ImageTile:
    """An image of a project. `state` is `labelled`, or why there is no accepted label.

    `is_private`: it shows faces or personal data, and may not be shown.
    """

    image_id: str
    name: str
    state: str
    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    suggestions: tuple[SuggestedPath, ...]
    product: str | None
    task_id: str | None
    is_private: bool


@dataclass(frozen=True)
class ImagePage:
    """A page of images; `after` begins the next one, None at the end. `total` is None where nothing counts them."""

    tiles: tuple[ImageTile, ...]
    after: str | None
    total: int | None


@dataclass(frozen=True)
class ImageCounts:
    """The numbers of images to choose from. `right` and `wrong` are suggestions of the served version `version`."""

    nodes: tuple[NodeLabels, ...]
    states: Mapping[str, int]
    version: str | None
    right: int
    wrong: int


@dataclass(frozen=True)
class Opinion:
    """What a person said about an image; `skipped`: nothing, `bulk`: about many images in one action.

    `problem` says why it cannot be read.
    """

    annotator: str
    at: datetime
    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    skipped: bool
    task_id: str
    problem: str | None = None
    bulk: bool = False


@dataclass(frozen=True)
class ImageDetails:
    """All that is known about an image. `views` are other images of its product, at most `MOST_VIEWS`.

    `detail` explains the state, as a log has it. `link` is its task in Label Studio.
    """

    tile: ImageTile
    uri: str
    part: str | None
    detail: str | None
    decided_by: str | None
    decided_at: datetime | None
    size: tuple[int, int] | None
    opinions: tuple[Opinion, ...]
    suggestions: tuple[SuggestedPath, ...]
    views: tuple[ImageTile, ...]
    link: str | None

    @property
    def address(self) -> str:
        """The address without what may sign it."""
        return without_query(self.uri)


def collect_image_counts(services: Services, project: str) -> ImageCounts:
    """Return the numbers of images by node, by state, and by what accepted labels say about the suggestions."""
    champion = services.registry.champion(registry_name(project))
    right, wrong = judged_of(services, project, model_version_name(champion)) if champion else (0, 0)
    return ImageCounts(
        nodes=tuple(nodes_with_labels(services, project)),
        states=states_of(services, project),
        version=champion,
        right=right,
        wrong=wrong,
    )


def collect_images(
    services: Services, project: str, wanted: ImageFilter, *, after: str = "", limit: int = PAGE
) -> ImagePage:
    """Return the next images of a project, in the order of their ids, which is as good as random."""
    documents = list(_documents(services, project, wanted, after, limit + 1))
    shown = documents[:limit]
    return ImagePage(
        tiles=tuple(_tiles(services, project, shown)),
        after=shown[-1].id if len(documents) > limit else None,
        total=_total(services, project, wanted),
    )


def find_tiles(services: Services, project: str, images: Sequence[str]) -> list[ImageTile]:
    """Return those of the images that the project has, in the order given, each once."""
    documents = services.catalog.get_many(list(dict.fromkeys(images)))
    found = [documents[image] for image in dict.fromkeys(images) if image in documents]
    return list(_tiles(services, project, [document for document in found if project in document.projects]))


def collect_image(services: Services, project: str, image: str) -> ImageDetails:
    """Return all that is known about an image of a project. Raises `NotFoundError`."""
    document = services.catalog.get(image)
    labels = document.projects.get(project) if document else None
    if document is None or labels is None:
        raise NotFoundError(f"Project {project} has no such image.")
    (tile,) = _tiles(services, project, [document])
    views: list[ImageDocument] = []
    if tile.product:
        found = services.catalog.page(project, [Facet("product", (tile.product,))], limit=MOST_VIEWS + 1)
        views = [other for other in found if other.id != document.id][:MOST_VIEWS]
    opinions = tuple(_opinions(services, project, image))
    task = labels.task_id or next((opinion.task_id for opinion in opinions), None)
    address, width, height = label_studio_address(services, project), *_size(document)
    return ImageDetails(
        tile=tile,
        uri=labels.uri,
        part=labels.part,
        detail=labels.detail,
        decided_by=labels.decided_by,
        decided_at=labels.updated_at,
        size=(width, height) if width and height else None,
        opinions=opinions,
        suggestions=tuple(
            _suggested(row, document, project) for row in services.suggestions.of_images(project, [image])
        ),
        views=tuple(_tiles(services, project, views)),
        link=f"{address}?task={task}" if address and task and task.isdecimal() else None,
    )


def _size(document: ImageDocument) -> tuple[int | None, int | None]:
    return document.resolution_width, document.resolution_height


def _documents(
    services: Services, project: str, wanted: ImageFilter, after: str, limit: int
) -> Iterator[ImageDocument]:
    if wanted.judged is None and wanted.evaluated is None:
        yield from services.catalog.page(project, wanted.facets, after=after, limit=limit)
        return
    found = 0
    for ids in _ids(services, project, wanted, after):
        documents = services.catalog.get_many(ids)
        for id in ids:
            document = documents.get(id)
            if document and project in document.projects and set(wanted.facets) <= set(facets_of(document, project)):
                yield document
                found += 1
                if found == limit:
                    return


def _ids(services: Services, project: str, wanted: ImageFilter, after: str) -> Iterator[list[str]]:
    """Yield the ids after this one, in order, of images that were judged and evaluated as wanted."""
    evaluated = ids_of(services, project, wanted.evaluated) if wanted.evaluated else None
    if wanted.judged is None:
        ids = evaluated or []
        for place in range(bisect_right(ids, after), len(ids), _READ_AT_ONCE):
            yield ids[place : place + _READ_AT_ONCE]
        return
    champion, kept = services.registry.champion(registry_name(project)), set(evaluated or ())
    if champion is None:
        return
    version, is_right = model_version_name(champion), wanted.judged == "right"
    limit = _READ_AT_ONCE if wanted.facets or evaluated is not None else PAGE + 1
    while ids := services.suggestions.judged_images(project, version, right=is_right, after=after, limit=limit):
        yield ids if evaluated is None else [id for id in ids if id in kept]
        after = ids[-1]


def _total(services: Services, project: str, wanted: ImageFilter) -> int | None:
    """Return the number of images of a filter, None for one of several properties, which nothing counts."""
    match wanted:
        case ImageFilter((), None, None, None, None):
            return sum(states_of(services, project).values())
        case ImageFilter((), str(state), None, None, None):
            return states_of(services, project).get(state, 0)
        case ImageFilter((control, *path), None, None, None, None):
            return nodes_of(services, project).get((control, tuple(path)), 0)
        case ImageFilter((), None, None, None, evaluated) if evaluated is not None:
            return len(ids_of(services, project, evaluated))
    return None


def _tiles(services: Services, project: str, documents: list[ImageDocument]) -> Iterator[ImageTile]:
    champion = services.registry.champion(registry_name(project))
    version = model_version_name(champion) if champion else None
    suggested: dict[str, list[StoredSuggestion]] = {}
    for row in services.suggestions.of_images(project, [document.id for document in documents]):
        if row.version == version:
            suggested.setdefault(row.image_id, []).append(row)
    for document in documents:
        labels = document.projects[project]
        yield ImageTile(
            image_id=document.id,
            name=_file_name(labels.uri),
            state=LABELLED if labels.labelled else labels.reason or UNANNOTATED,
            labels={control: labels.paths(control) for control in labels.accepted if labels.accepted[control]},
            suggestions=tuple(_suggested(row, document, project) for row in suggested.get(document.id, ())),
            product=document.product(project),
            task_id=labels.task_id,
            is_private=document.private and not services.settings.allow_private,
        )


def _file_name(uri: str) -> str:
    """Return the name of an image's file; that of a local file of Label Studio is in the query."""
    path, _, query = uri.partition("?")
    local = parse_qs(query).get("d", [""])[0] if path.endswith("/local-files/") else ""
    return (local or without_query(uri)).rstrip("/").rpartition("/")[2]


def _suggested(row: StoredSuggestion, document: ImageDocument, project: str) -> SuggestedPath:
    paths = document.projects[project].paths(row.control)
    right = any(path[: len(row.path)] == row.path for path in paths) if paths else None
    is_above = right is False and any(row.path[: len(path)] == path for path in paths)  # deeper levels are not known
    at = datetime.fromtimestamp(row.at, UTC)
    return SuggestedPath(row.control, row.version, row.path, row.score, at, row.blind, None if is_above else right)


def _opinions(services: Services, project: str, image: str) -> Iterator[Opinion]:
    try:
        config = services.label_config(project)
    except ConfigError:
        return
    for record in services.journal.annotations(project, image):
        try:
            read = parse_annotation(record.data, config, task_id=record.task_id)
        except BadRequestError as error:
            yield Opinion("", record.created_at, {}, False, record.task_id, str(error))
            continue
        yield Opinion(
            _name(record.data, str(read.annotator)),
            record.created_at,
            read.labels,
            read.skipped,
            record.task_id,
            bulk=read.bulk,
        )


def _name(data: Mapping[str, object], otherwise: str) -> str:
    """Return the e-mail address of who made an annotation, where Label Studio says it."""
    person = data.get("completed_by")
    email = person.get("email") if isinstance(person, Mapping) else data.get("created_username")
    return str(email) if email else otherwise
