"""The label query: conditions on documents, each in Python and in the SQL of Cosmos DB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxonomist.storage.catalog.documents import PRIVATE_FIELDS, ImageDocument, is_private

__all__ = ["Found", "LabelQuery", "conditions", "cosmos_where", "explain", "matches"]


@dataclass(frozen=True)
class LabelQuery:
    """The conditions on a document. By default every document matches that is neither blurred nor private.

    `include` and `exclude` are names of nodes at any level: the path of at least one annotator must contain a name to
    include, and no path may contain a name to exclude. A document without labels has nothing to exclude.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_annotators: int = 0
    """`total_annotations` must be at least this."""
    reviewed: bool | None = None
    labelled: bool | None = None
    """Whether `labels_with_taxonomy` has entries."""
    blurred: bool | None = False
    """False leaves out images that are marked as blurred, True leaves out all others."""
    sortout: tuple[str, ...] = ()
    """Accepted values of `sortout`; empty: any."""
    testset: bool | None = None
    private: bool | None = False
    """False leaves out images with faces or personal data, True leaves out all others."""
    project: str | None = None


@dataclass(frozen=True)
class Found:
    """A document that a query found, and its container ("" in SQLite, which has no containers)."""

    document: ImageDocument
    container: str = ""


@dataclass(frozen=True)
class Condition:
    """One condition of a query, in Python and in the SQL of Cosmos DB, with the same result.

    A document may be any JSON. In Cosmos DB, comparing a missing field or a value of another type is neither true nor
    false, and so is its negation; therefore each type is checked before the value.
    """

    reason: str
    """Why a document that does not meet the condition is left out."""
    holds: Callable[[Mapping[str, Any]], bool]
    sql: str
    """In brackets if it contains an OR."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def matches(document: Mapping[str, Any], query: LabelQuery) -> bool:
    """Return whether the document, in JSON form, meets all conditions of the query."""
    return explain(document, query) is None


def explain(document: Mapping[str, Any], query: LabelQuery) -> str | None:
    """Return the first reason why the query leaves the document out, None when it matches."""
    return next((condition.reason for condition in conditions(query) if not condition.holds(document)), None)


def conditions(query: LabelQuery) -> Iterator[Condition]:
    """Yield the conditions of a query, in the order in which reasons are reported."""
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
    """Return the condition of a Cosmos DB query over `c`, and the values of its parameters by name.

    The condition is flat, because the time of the emulator's parser doubles with each level of brackets.
    """
    parts = list(conditions(query))
    parameters = {name: value for part in parts for name, value in part.parameters.items()}
    return " AND ".join(part.sql for part in parts) or "true", parameters


def _names(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of nodes in the annotators' paths. Listing 4.3 prints a single path without the outer list."""
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
    """Return the condition on a flag; every value but `true` means no."""
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
        sql = f"({' OR '.join(_FILLED.format(f=field) for field in fields)})"
        return Condition("shows no faces or personal data", holds, sql)
    sql = " AND ".join(f"({_EMPTY.format(f=field)})" for field in fields)
    return Condition("shows faces or personal data", holds, sql)


# In a chain of ORs, comparisons that are neither true nor false have no effect.
_EMPTY = "NOT IS_DEFINED({f}) OR IS_NULL({f}) OR {f} = false OR {f} = '' OR ARRAY_LENGTH({f}) = 0"
_FILLED = "IS_NUMBER({f}) OR IS_OBJECT({f}) OR {f} = true OR LENGTH({f}) > 0 OR ARRAY_LENGTH({f}) > 0"


def _in_project(project: str) -> Condition:
    def holds(document: Mapping[str, Any]) -> bool:
        projects = document.get("projects")
        return isinstance(projects, dict) and project in projects

    # `CosmosCatalog` derives this field, because a query cannot test whether an object has a key given as a parameter.
    sql = "IS_ARRAY(c.taxonomist.projects) AND ARRAY_CONTAINS(c.taxonomist.projects, @project)"
    return Condition("is not in the project", holds, sql, {"@project": project})
