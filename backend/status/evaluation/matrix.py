"""The confusion matrix at a node of the tree: its children, as labels and as predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, check_node
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

ELSEWHERE, OTHERS = "elsewhere", "others"
_CHILD = "="
MOST_CLASSES = 20
"""Children of a node that a matrix shows; more cannot be read. The others are one class."""


@dataclass(frozen=True)
class Row:
    """The images of a label. `cells` are their numbers by column."""

    key: str
    images: int
    cells: tuple[int, ...]


@dataclass(frozen=True)
class Matrix:
    """The children of `node`: rows are labels, columns predictions. Only images whose label reaches their level count.

    A key is the name of a child after "=", `OTHERS` for the `others` children with fewer mistakes, or `ELSEWHERE`: as a
    column for predictions that are not below the node, as a row for labels that are not. `focus` is the child whose
    confusions are shown first, where not all fit. `untested` children are the label of no image, and have no row.
    """

    node: TaxonomyPath
    focus: str | None
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    others: int
    untested: int

    @property
    def images(self) -> int:
        """The number of all images in the matrix."""
        return sum(row.images for row in self.rows)


def child_of(key: str) -> str | None:
    """Return the name of a child, None for a key of several."""
    return key[len(_CHILD) :] if key.startswith(_CHILD) else None


def key_of(child: str) -> str:
    """Return the key of a child."""
    return _CHILD + child


def confusion_matrix(outcomes: ControlOutcomes, node: TaxonomyPath, focus: str | None = None) -> Matrix:
    """Return the matrix at a node; () has the nodes of level 1. Raises `NotFoundError` for an unknown node or child."""
    check_node(outcomes, node)
    tree = outcomes.tree
    children = [tree.paths[child][-1] for child in tree.children(tree.index[node] if node else -1).tolist()]
    if focus is not None and focus not in children:
        raise NotFoundError(f"{format_path(node) or 'The tree'} has no node {focus!r} below it.")
    counts = Counter((true, predicted) for _, true, predicted in _located(outcomes, node))
    found = {name for pair in counts for name in pair if name is not None}
    shown = _shown(children, found, counts, focus)
    cells: Counter[tuple[str, str]] = Counter()
    for (true, predicted), number in counts.items():
        cells[_key(true, shown), _key(predicted, shown)] += number
    order = [*(key_of(child) for child in children if child in shown), OTHERS, ELSEWHERE]
    rows = {true for true, _ in cells}
    columns = tuple(key for key in order if child_of(key) is not None or any(key == column for _, column in cells))
    counted = ((key, tuple(cells[key, column] for column in columns)) for key in order if key in rows)
    labels = {true for true, _ in counts if true is not None}
    return Matrix(
        node,
        focus,
        tuple(Row(key, sum(numbers), numbers) for key, numbers in counted),
        columns,
        len(found) - len(shown),
        len(children) - len(labels),
    )


def images_of_cell(
    outcomes: ControlOutcomes, node: TaxonomyPath, focus: str | None, row: str, column: str
) -> list[str]:
    """Return the ids of the images that a cell counts, in order. Raises `NotFoundError` as `confusion_matrix` does, and
    for a cell that the matrix does not have."""
    matrix = confusion_matrix(outcomes, node, focus)
    if row not in {shown.key for shown in matrix.rows} or column not in matrix.columns:
        raise NotFoundError("The confusion matrix has no such cell.")
    shown = {child for key in matrix.columns if (child := child_of(key)) is not None}
    return [
        image
        for image, true, predicted in _located(outcomes, node)
        if (_key(true, shown), _key(predicted, shown)) == (row, column)
    ]


def _located(outcomes: ControlOutcomes, node: TaxonomyPath) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield id, true child and predicted child of each image with one of the two; None is not below the node."""
    for pair in outcomes.pairs.get(len(node) + 1, ()):
        true, predicted = (path[-1] if path and path[:-1] == node else None for path in (pair.true, pair.predicted))
        if true is not None or predicted is not None:
            yield pair.image_id, true, predicted


def _key(name: str | None, shown: Collection[str]) -> str:
    return ELSEWHERE if name is None else key_of(name) if name in shown else OTHERS


def _shown(
    children: list[str], found: set[str], counts: Counter[tuple[str | None, str | None]], focus: str | None
) -> set[str]:
    """Return the children that a matrix shows: the focus and what it is confused with, then those with the most
    mistakes."""
    mistakes: Counter[str | None] = Counter()
    confused: Counter[str | None] = Counter()
    for pair, number in counts.items():
        if pair[0] != pair[1]:
            for name, other in (pair, pair[::-1]):
                mistakes[name] += number
                confused[name] += number if other == focus and focus is not None else 0
    ranked = sorted(
        (child for child in children if child in found),
        key=lambda child: (child != focus, -confused[child], -mistakes[child]),
    )
    return set(ranked[:MOST_CLASSES])
