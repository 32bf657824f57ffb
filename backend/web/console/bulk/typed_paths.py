"""The paths of a control as people read and type them: with the names that they see in Label Studio."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from taxonomist.backend.labelling.bulk import LabelProblem, label_problem
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree

MOST_OFFERED = 2000  # paths in the list of a field: more are typed
_BETWEEN = re.compile(r"\s*[›>]\s*")


@dataclass(frozen=True)
class TypedPath:
    """What was typed for a control. `path` is the node, None for an empty field, or where there is a `problem`.

    `nearest` is a path with a similar name.
    """

    text: str = ""
    path: TaxonomyPath | None = None
    problem: LabelProblem | None = None
    nearest: str | None = None


@dataclass(frozen=True)
class LabelField:
    """A field of the page: a control, what it offers, and what was typed."""

    control: str
    offered: tuple[str, ...]
    typed: TypedPath


def label_field(tree: Tree, text: str) -> LabelField:
    """Return the field of a control with what was typed."""
    return LabelField(tree.control, tuple(_paths(tree))[:MOST_OFFERED], read_typed(tree, text))


def shown_path(tree: Tree | None, path: TaxonomyPath) -> str:
    """Return a path with the names that people see: the value of a choice, not its alias."""
    values = dict(tree.values) if tree else {}
    return format_path(tuple(values.get(prefix, prefix[-1]) for prefix in prefixes(path)))


def read_typed(tree: Tree, text: str) -> TypedPath:
    """Return the path that was typed: with names or aliases, and `›` or `>` between them."""
    text = text.strip()
    if not text:
        return TypedPath()
    path = _paths(tree).get(text) or tree.node_of(tuple(_BETWEEN.split(text)))
    if path is None:
        nearest = tree.nearest(tuple(_BETWEEN.split(text)))
        return TypedPath(text, None, LabelProblem.UNKNOWN, shown_path(tree, nearest) if nearest else None)
    if (problem := label_problem(tree, path)) is not None:
        return TypedPath(text, None, problem)
    return TypedPath(text, path)


def _paths(tree: Tree) -> Mapping[str, TaxonomyPath]:
    """Return the paths that the control takes, by what people read."""
    values = dict(tree.values)
    shown: dict[TaxonomyPath, TaxonomyPath] = {(): ()}
    for path in tree.paths:  # each parent comes before its children
        shown[path] = (*shown[path[:-1]], values.get(path, path[-1]))
    return {format_path(shown[path]): path for path in tree.paths if label_problem(tree, path) is None}
