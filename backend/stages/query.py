"""The first stage (*connect_db* in the thesis): which pictures take part, and why the others do not."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from taxonomist.backend.services import Services
from taxonomist.backend.stages.files import Chosen, write_query
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.label_query import Found, LabelQuery, explain
from taxonomist.taxonomy.agreement import AgreementPolicy, decide
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import TaxonomyPath

log = logging.getLogger(__name__)

NO_ADDRESS = "has no address"
OTHERWISE = "was left out by the database, or changed meanwhile"
UNREADABLE = "cannot be read, or is stored twice"
Advance = Callable[[int, int], None]
_REPORT_EVERY = 500
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNATURE = re.compile(r"\?(?:[^?]*&)?sig=[^?]*$")
_FIELD = re.compile(r"\{(.*?)\}")


@dataclass(frozen=True)
class QueryOptions:
    """Beside the query: whose label counts, how to reach pictures that no project has, and whether every document is
    looked at to say why it was left out.

    `control` is the taxonomy to take the label of; None: the first that has one. `address` is a pattern with `{id}`,
    `{uri_orig}` and `{container}`; None: their `uri_orig`.
    """

    control: str | None = None
    address: str | None = None
    reasons: bool = True


@dataclass(frozen=True)
class Queried:
    """What a query came to. `labels` counts the pictures of each level-1 label, `left_out` the others by reason."""

    folder: Path
    pictures: int
    labelled: int
    labels: dict[str, int]
    containers: dict[str, int]
    left_out: dict[str, int]


def run_query(
    services: Services,
    query: LabelQuery,
    folder: Path,
    options: QueryOptions | None = None,
    advance: Advance = lambda done, total: None,
) -> Queried:
    """Write `query.csv`, `containers.json` and `query.json` into the folder.

    Raises `StorageError`, and `ConfigError` when no picture is found.
    """
    options = options or QueryOptions()
    _check_address(options.address)
    if services.settings.allow_private:
        query = replace(query, private=None)
    chosen, left_out = _choose(services, query, options)
    if options.reasons:
        left_out += _reasons(services, query, {one.id for one in chosen}, left_out, advance)
    elif others := services.catalog.count(query.project) - len(chosen) - left_out.total():
        left_out["is not wanted"] = max(0, others)
    done = Queried(
        folder,
        len(chosen),
        sum(1 for one in chosen if one.path),
        _counted(one.path[0] for one in chosen if one.path),
        _counted(one.container for one in chosen),
        dict(left_out.most_common()),
    )
    log.info("the query chose %d pictures, %d of them labelled", done.pictures, done.labelled)
    for reason, count in done.left_out.items():
        log.info("left out, since it %s: %d", reason, count)
    if not chosen:
        raise ConfigError("The query chose no picture.", hint=_main_reason(done.left_out))
    report = {"query": asdict(query), "options": asdict(options), **asdict(done)}
    del report["folder"]
    write_query(folder, chosen, report)
    return done


def _choose(services: Services, query: LabelQuery, options: QueryOptions) -> tuple[list[Chosen], Counter[str]]:
    chosen, left_out = [], Counter[str]()
    for found in services.catalog.find(query):
        one = choose(found, query, options, services.settings.agreement)
        if one is None:
            left_out[NO_ADDRESS] += 1
        else:
            chosen.append(replace(one, uri=_unsigned(services, one.uri)))
    return chosen, left_out


def _unsigned(services: Services, uri: str) -> str:
    """The address of a blob of our own account without its signature: we have a key, and files are handed on."""
    blobs = services.blob_images
    return _SIGNATURE.sub("", uri) if blobs is not None and blobs.owns(uri) else uri


def choose(found: Found, query: LabelQuery, options: QueryOptions, policy: AgreementPolicy) -> Chosen | None:
    """The line of a document that the query found, None when it does not say where the picture is."""
    document = found.document
    project = _project(document, query, options)
    here = document.projects.get(project)
    uri = here.uri if here else _address(found, options.address)
    if not uri:
        return None
    tested = document.sortout_testset or (here is not None and here.part == "test")
    return Chosen(
        id=document.id,
        uri=uri,
        container=found.container,
        project=project,
        group=(here.group if here else None) or document.servicereport_filename or "",
        file_hash=document.file_hash or "",
        part="test" if tested else (here.part if here else None) or "",
        path=_path(document, project, query, options, policy),
    )


def _project(document: ImageDocument, query: LabelQuery, options: QueryOptions) -> str:
    """The project that the label is taken from: the one asked for, else the first that has one, else any."""
    if query.project is not None:
        return query.project
    labelled = (name for name in document.projects if _accepted(document, name, options.control))
    return next(labelled, next(iter(document.projects), ""))


def _path(
    document: ImageDocument, project: str, query: LabelQuery, options: QueryOptions, policy: AgreementPolicy
) -> TaxonomyPath:
    """The label: of several the first that has a name to include, else the first."""
    paths = _accepted(document, project, options.control) if project else _agreed(document, options.control, policy)
    wanted = set(query.include)
    return next((path for path in paths if wanted & set(path)), next(iter(paths), ()))


def _accepted(document: ImageDocument, project: str, control: str | None) -> list[TaxonomyPath]:
    here = document.projects[project]
    return [path for name in here.accepted if control in {None, name} for path in here.paths(name)]


def _agreed(document: ImageDocument, control: str | None, policy: AgreementPolicy) -> list[TaxonomyPath]:
    """What the annotators of a document agree on that no project of ours has decided (listing 4.3)."""
    if policy.require_review and not document.has_review:
        return []
    said: dict[str, list[TaxonomyPath]] = {}
    for entry in document.labels_with_taxonomy:
        if control in {None, (entry.model_extra or {}).get("control", control)}:
            said.setdefault(str(entry.annotator_id), []).extend(tuple(path) for path in entry.taxonomy if path)
    annotations = [
        Annotation(annotator, document.id, annotator, _LONG_AGO, _LONG_AGO, {"": tuple(paths)}, (), False, False, False)
        for annotator, paths in said.items()
    ]
    return list(decide(annotations, "", replace(policy, require_review=False)).accepted)


def _check_address(pattern: str | None) -> None:
    unknown = [name for name in _FIELD.findall(pattern or "") if name not in {"id", "uri_orig", "container"}]
    if unknown:
        raise ConfigError(
            f"--address has an unknown {{{unknown[0]}}}.", hint="There are {id}, {uri_orig} and {container}."
        )


def _address(found: Found, pattern: str | None) -> str:
    uri_orig = found.document.uri_orig or ""
    if pattern is None or ("{uri_orig}" in pattern and not uri_orig):
        return uri_orig
    values = {"id": found.document.id, "uri_orig": uri_orig, "container": found.container}
    safe = (lambda value: quote(value, safe="/")) if "://" in pattern else str
    return _FIELD.sub(lambda field: safe(values[field[1]]), pattern)


def _reasons(
    services: Services, query: LabelQuery, chosen: set[str], known: Counter[str], advance: Advance
) -> Counter[str]:
    """Why each document that was not chosen was left out; `known` has those whose reason is known."""
    everything = LabelQuery(blurred=None, private=None, project=query.project)
    total = services.catalog.count(query.project)
    reasons, seen, unexplained = Counter[str](), 0, 0
    for found in services.catalog.find(everything):
        seen += 1
        if seen % _REPORT_EVERY == 0:
            advance(seen, max(seen, total))
        if found.document.id in chosen:
            continue
        reason = explain(found.document.to_json(), query)
        if reason is None:
            unexplained += 1
        else:
            reasons[reason] += 1
    advance(seen, seen)
    reasons[OTHERWISE] = max(0, unexplained - known.total())
    reasons[UNREADABLE] = max(0, total - seen)
    return +reasons


def _counted(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _main_reason(left_out: dict[str, int]) -> str:
    if not left_out:
        return "The catalogue is empty: import pictures, or see that the settings name the right one."
    reason, count = next(iter(left_out.items()))
    return f"Most of the {sum(left_out.values())} others: it {reason} ({count})."
