"""The label query: which documents are wanted, said once for Python and once for Cosmos DB, condition by condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxonomist.storage.catalog.documents import PRIVATE_FIELDS, ImageDocument, is_private

__all__ = ["Found", "LabelQuery", "conditions", "cosmos_where", "explain", "matches"]


@dataclass(frozen=True)
class LabelQuery:
    """What a document must be like. A default asks for nothing, but that it is neither blurred nor private.

    `include` and `exclude` are names of nodes at any level: some annotator's path must have one of the former, none may
    have one of the latter. A document with no labels has nothing to exclude.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_annotators: int = 0
    """`total_annotations` must be at least this."""
    reviewed: bool | None = None
    labelled: bool | None = None
    """Whether `labels_with_taxonomy` has entries."""
    blurred: bool | None = False
    """False leaves out what is marked as blurred, True all else."""
    sortout: tuple[str, ...] = ()
    """Accepted values of `sortout`; empty: any."""
    testset: bool | None = None
    private: bool | None = False
    """False leaves out pictures with faces or personal data, True all else."""
    project: str | None = None


@dataclass(frozen=True)
class Found:
    """A document that a query found, and the container where it lives ("" in SQLite, which has no containers)."""

    document: ImageDocument
    container: str = ""


@dataclass(frozen=True)
class Condition:
    """One demand of a query: the same thing in Python and in the SQL of Cosmos DB.

    A document is anything that JSON can write. In Cosmos DB the comparison of a missing field or another type is
    neither true nor false, and so is its negation; so each type is asked for before a value is.
    """

    reason: str
    """Why a document that does not fulfil it is left out."""
    holds: Callable[[Mapping[str, Any]], bool]
    sql: str
    """In brackets where it has an OR."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def matches(document: Mapping[str, Any], query: LabelQuery) -> bool:
    """Whether the query wants this document, as JSON has it."""
    return explain(document, query) is None


def explain(document: Mapping[str, Any], query: LabelQuery) -> str | None:
    """The first reason why the query leaves the document out, None when it does not."""
    return next((condition.reason for condition in conditions(query) if not condition.holds(document)), None)


def conditions(query: LabelQuery) -> Iterator[Condition]:
    """The demands of a query, in the order in which reasons are given."""
    if query.project is not None:
        yield _in_project(query.project)
    if query.private is not None:
        yield _private(query.private)
    if query.blurred is not None:
        yield _flag("is_blurred", query.blurred, yes="is not blurred", no="is blurred")
    if query.sortout:
        yield _sortout(query.sortout)
    if query.testset is not None:
        yield _flag("sortout_testset", query.testset, yes="is not in the test set", no="is in the test set")
    if query.labelled is not None:
        yield _labelled(query.labelled)
    if query.reviewed is not None:
        yield _flag("has_review", query.reviewed, yes="is not reviewed", no="is reviewed")
    if query.min_annotators > 0:
        yield _annotators(query.min_annotators)
    if query.exclude:
        yield _without(query.exclude)
    if query.include:
        yield _with(query.include)


def cosmos_where(query: LabelQuery) -> tuple[str, dict[str, Any]]:
    """The condition of a Cosmos DB query over `c`, and the values of its parameters by name.

    The condition is flat: the parser of the emulator takes a time that doubles with each bracket in a bracket.
    """
    demands = list(conditions(query))
    parameters = {name: value for demand in demands for name, value in demand.parameters.items()}
    return " AND ".join(demand.sql for demand in demands) or "true", parameters


def _names(document: Mapping[str, Any]) -> Iterator[str]:
    """Names of nodes in the annotators' paths. Listing 4.3 prints a single path without the outer list."""
    labels = document.get("labels_with_taxonomy")
    for entry in labels if isinstance(labels, list) else ():
        taxonomy = entry.get("taxonomy") if isinstance(entry, dict) else None
        for path in taxonomy if isinstance(taxonomy, list) else ():
            yield from (name for name in (path if isinstance(path, list) else [path]) if isinstance(name, str))


_LABELS = "c.labels_with_taxonomy"
_UDF = "udf.filterDocumentsByLabels(c.id, c.labels_with_taxonomy, {include}, {exclude})"


def _with(names: tuple[str, ...]) -> Condition:
    wanted = frozenset(names)
    function = _UDF.format(include="@include", exclude="@nothing")
    return Condition(
        "has none of the labels to include",
        lambda document: not wanted.isdisjoint(_names(document)),
        f"IS_ARRAY({_LABELS}) AND ARRAY_LENGTH({function}) > 0",
        {"@include": list(names), "@nothing": []},
    )


def _without(names: tuple[str, ...]) -> Condition:
    unwanted = frozenset(names)
    function = _UDF.format(include="@exclude", exclude="@nothing")
    return Condition(
        "has a label to exclude",
        lambda document: unwanted.isdisjoint(_names(document)),
        f"(NOT IS_ARRAY({_LABELS}) OR ARRAY_LENGTH({function}) = 0)",
        {"@exclude": list(names), "@nothing": []},
    )


def _flag(name: str, wanted: bool, *, yes: str, no: str) -> Condition:
    """Everything but `true` is no."""
    return Condition(
        yes if wanted else no,
        lambda document: (document.get(name) is True) is wanted,
        f"c.{name} = true" if wanted else f"(NOT IS_BOOL(c.{name}) OR c.{name} = false)",
    )


def _labelled(wanted: bool) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        labels = document.get("labels_with_taxonomy")
        return (isinstance(labels, list) and bool(labels)) is wanted

    if wanted:
        return Condition("has no labels", holds, f"IS_ARRAY({_LABELS}) AND ARRAY_LENGTH({_LABELS}) > 0")
    return Condition("has labels", holds, f"(NOT IS_ARRAY({_LABELS}) OR ARRAY_LENGTH({_LABELS}) = 0)")


def _annotators(least: int) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        total = document.get("total_annotations")
        return isinstance(total, int | float) and not isinstance(total, bool) and total >= least

    sql = "IS_NUMBER(c.total_annotations) AND c.total_annotations >= @annotators"
    return Condition("has too few annotators", holds, sql, {"@annotators": least})


def _sortout(accepted: tuple[str, ...]) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        value = document.get("sortout")
        return isinstance(value, str) and value in accepted

    sql = "IS_STRING(c.sortout) AND ARRAY_CONTAINS(@sortout, c.sortout)"
    return Condition("has another sort-out state", holds, sql, {"@sortout": list(accepted)})


def _private(wanted: bool) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        return is_private(document) is wanted

    fields = [f"c.{name}" for name in PRIVATE_FIELDS]
    if wanted:
        sql = f"({' OR '.join(_FILLED.format(f=each) for each in fields)})"
        return Condition("shows no faces or personal data", holds, sql)
    sql = " AND ".join(f"({_EMPTY.format(f=each)})" for each in fields)
    return Condition("shows faces or personal data", holds, sql)


# Of statements joined by OR those that are neither true nor false do not matter.
_EMPTY = "NOT IS_DEFINED({f}) OR IS_NULL({f}) OR {f} = false OR {f} = '' OR ARRAY_LENGTH({f}) = 0"
_FILLED = "IS_NUMBER({f}) OR IS_OBJECT({f}) OR {f} = true OR LENGTH({f}) > 0 OR ARRAY_LENGTH({f}) > 0"


def _in_project(project: str) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        projects = document.get("projects")
        return isinstance(projects, dict) and project in projects

    # A field that `CosmosCatalog` derives: an object cannot be asked for a key that is a parameter.
    sql = "IS_ARRAY(c.taxonomist.projects) AND ARRAY_CONTAINS(c.taxonomist.projects, @project)"
    return Condition("is not in the project", holds, sql, {"@project": project})
