"""The first stage (*connect_db* in the thesis): which images take part, and why the others are left out."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from taxonomist.backend.data_stages.files import ChosenImage, write_query
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.addresses import unsigned
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.label_query import Found, LabelQuery, explain
from taxonomist.taxonomy.agreement import AgreementPolicy, decide
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import TaxonomyPath

log = logging.getLogger(__name__)

NO_ADDRESS = "has no address"
UNEXPLAINED = "was left out by the database, or changed meanwhile"
UNREADABLE = "cannot be read, or is stored twice"
_REPORT_EVERY = 500
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class QueryOptions:
    """Options besides the query.

    `control` is the taxonomy that labels are taken from; None: the first one that has a label. `address` is a pattern
    with `{id}`, `{uri_orig}` and `{container}` for the addresses of images that are in no project; None: `uri_orig`.
    With `reasons`, every document is read to find out why it was left out.
    """

    control: str | None = None
    address: str | None = None
    reasons: bool = True


@dataclass(frozen=True)
class QueryResult:
    """The result of a query: `labels` counts images by level-1 label, `left_out` counts the other images by reason."""

    folder: Path
    images: int
    labelled: int
    labels: dict[str, int]
    containers: dict[str, int]
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for JSON. `pictures` is the former name of `images`."""
        return asdict(self) | {"pictures": self.images}


def run_query(
    services: Services,
    query: LabelQuery,
    folder: Path,
    options: QueryOptions | None = None,
    progress: CountProgress = ignore_counts,
) -> QueryResult:
    """Write `query.csv`, `containers.json` and `query.json` into the folder and return the counts.

    Raises `StorageError`, `NotFoundError` for an unknown project, `ConfigError` when the query chooses no image.
    """
    options = options or QueryOptions()
    _check_address(options.address)
    _check_project(services, query.project)
    if services.settings.allow_private:
        query = replace(query, private=None)
    chosen, left_out = _choose_images(services, query, options)
    if options.reasons:
        left_out += _reasons(services, query, {image.id for image in chosen}, left_out, progress)
    elif unchosen := services.catalog.count(query.project) - len(chosen) - left_out.total():
        left_out["is not wanted"] = max(0, unchosen)
    result = QueryResult(
        folder,
        len(chosen),
        sum(1 for image in chosen if image.path),
        _counted(image.path[0] for image in chosen if image.path),
        _counted(image.container for image in chosen),
        dict(left_out.most_common()),
    )
    log.info("the query chose %d images, %d of them labelled", result.images, result.labelled)
    for reason, count in result.left_out.items():
        log.info("left out: %d, each %s", count, reason)
    if not chosen:
        raise ConfigError("The query chose no image.", hint=_main_reason(result.left_out))
    report = {"query": asdict(query), "options": asdict(options), **result.to_json()}
    del report["folder"]
    write_query(folder, chosen, report)
    return result


def _choose_images(
    services: Services, query: LabelQuery, options: QueryOptions
) -> tuple[list[ChosenImage], Counter[str]]:
    chosen, left_out = [], Counter[str]()
    policy = services.agreement(query.project) if query.project else services.settings.agreement_policy
    for found in services.catalog.find(query):
        image = choose_image(found, query, options, policy)
        if image is None:
            left_out[NO_ADDRESS] += 1
        else:
            chosen.append(replace(image, uri=_unsigned(services, image.uri)))
    return chosen, left_out


def _unsigned(services: Services, uri: str) -> str:
    """Return the address, without its signature if the blob is in our own account, which we reach with a key."""
    blobs = services.blob_images
    return unsigned(uri) if blobs is not None and blobs.owns(uri) else uri


def choose_image(found: Found, query: LabelQuery, options: QueryOptions, policy: AgreementPolicy) -> ChosenImage | None:
    """Return the row of a document that the query found, None when the document has no address of its image."""
    document = found.document
    project = _project(document, query, options)
    labels = document.projects.get(project)
    uri = labels.uri if labels else _address(found, options.address)
    if not uri:
        return None
    is_test = document.sortout_testset or (labels is not None and labels.part == "test")
    return ChosenImage(
        id=document.id,
        uri=uri,
        container=found.container,
        project=project,
        group=document.product(project) or "",
        file_hash=document.file_hash or "",
        part="test" if is_test else (labels.part if labels else None) or "",
        bulk="yes" if labels is not None and labels.bulk else "",
        path=_path(document, project, query, options, policy),
    )


def _project(document: ImageDocument, query: LabelQuery, options: QueryOptions) -> str:
    """Return the project that the label comes from: that of the query, else the first with a label, else any."""
    if query.project is not None:
        return query.project
    labelled = (name for name in document.projects if _accepted(document, name, options.control))
    return next(labelled, next(iter(document.projects), ""))


def _path(
    document: ImageDocument, project: str, query: LabelQuery, options: QueryOptions, policy: AgreementPolicy
) -> TaxonomyPath:
    """Return the label. Of several labels it is the first that contains a node to include, or else the first."""
    paths = _accepted(document, project, options.control) if project else _agreed(document, options.control, policy)
    wanted = set(query.include)
    return next((path for path in paths if wanted & set(path)), next(iter(paths), ()))


def _accepted(document: ImageDocument, project: str, control: str | None) -> list[TaxonomyPath]:
    labels = document.projects[project]
    return [path for name in labels.accepted if control in {None, name} for path in labels.paths(name)]


def _agreed(document: ImageDocument, control: str | None, policy: AgreementPolicy) -> list[TaxonomyPath]:
    """Return the labels on which the annotators of a document agree that is in no project (thesis, listing 4.3)."""
    if policy.require_review and not document.has_review:
        return []
    paths_of: dict[str, list[TaxonomyPath]] = {}
    for entry in document.labels_with_taxonomy:
        if control in {None, (entry.model_extra or {}).get("control", control)}:
            paths_of.setdefault(str(entry.annotator_id), []).extend(tuple(path) for path in entry.taxonomy if path)
    annotations = [
        Annotation(annotator, document.id, annotator, _LONG_AGO, _LONG_AGO, {"": tuple(paths)}, (), False, False, False)
        for annotator, paths in paths_of.items()
    ]
    return list(decide(annotations, "", replace(policy, require_review=False)).accepted)


def _check_project(services: Services, project: str | None) -> None:
    """Raise `NotFoundError` for a project that is neither known nor in a document."""
    known = [record.project for record in services.projects]
    if project is None or project in known or services.catalog.count(project):
        return
    hint = f"Known projects: {', '.join(known)}." if known else "No project is known; import or connect one first."
    raise NotFoundError(f"Project {shorten(project)} is not known.", hint=hint)


def _check_address(pattern: str | None) -> None:
    unknown = [name for name in _FIELD.findall(pattern or "") if name not in {"id", "uri_orig", "container"}]
    if unknown:
        raise ConfigError(
            f"--address has an unknown field {{{unknown[0]}}}.", hint="The fields are {id}, {uri_orig} and {container}."
        )


def _address(found: Found, pattern: str | None) -> str:
    uri_orig = found.document.uri_orig or ""
    if pattern is None or ("{uri_orig}" in pattern and not uri_orig):
        return uri_orig
    values = {"id": found.document.id, "uri_orig": uri_orig, "container": found.container}
    # Names in addresses of other schemes are taken as they are.
    escape = (lambda value: quote(value, safe="/")) if pattern.startswith(("http:", "https:")) else str
    return _FIELD.sub(lambda field: escape(values[field[1]]), pattern)


def _reasons(
    services: Services, query: LabelQuery, chosen: set[str], known: Counter[str], progress: CountProgress
) -> Counter[str]:
    """Return the number of documents that were left out, by reason; `known` counts those whose reason is known."""
    everything = LabelQuery(blurred=None, private=None, project=query.project)
    total = services.catalog.count(query.project)
    reasons, seen, unexplained = Counter[str](), 0, 0
    for found in services.catalog.find(everything):
        seen += 1
        if seen % _REPORT_EVERY == 0:
            progress(seen, max(seen, total))
        if found.document.id in chosen:
            continue
        reason = explain(found.document.to_json(), query)
        if reason is None:
            unexplained += 1
        else:
            reasons[reason] += 1
    progress(seen, seen)
    reasons[UNEXPLAINED] = max(0, unexplained - known.total())
    reasons[UNREADABLE] = max(0, total - seen)
    return +reasons


def _counted(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _main_reason(left_out: dict[str, int]) -> str:
    if not left_out:
        return "The catalogue is empty. Import images, or check TAXONOMIST_HOME or TAXONOMIST_COSMOS_DATABASE."
    reason, count = next(iter(left_out.items()))
    return f"Most of the {sum(left_out.values())} images were left out because each {reason} ({count})."
