"""The confusion matrix at a node, against counts made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from taxonomist.backend.status.evaluation.matrix import (
    ELSEWHERE,
    MOST_CLASSES,
    OTHERS,
    Matrix,
    confusion_matrix,
    images_of_cell,
)
from taxonomist.backend.status.evaluation.node_scores import node_rows
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.report.outcomes import ImageOutcome

RED, YELLOW, BLUE, WARM = ("Warm", "Red"), ("Warm", "Yellow"), ("Cold", "Blue"), ("Warm",)
COLOURS = Tree("colour", "image", "taxonomy", (WARM, RED, YELLOW, ("Cold",), BLUE))


def outcomes_of(tree: Tree, rows: Sequence[tuple[Sequence[TaxonomyPath], TaxonomyPath]]) -> ControlOutcomes:
    images = tuple(
        ImageOutcome(f"{number:03d}", tuple(labels), likeliest, (0.5,) * len(likeliest))
        for number, (labels, likeliest) in enumerate(rows)
    )
    return ControlOutcomes("v1", tree, None, len(images), images)


def cells(matrix: Matrix) -> dict[tuple[str, str], int]:
    return {
        (row.key, column): images
        for row in matrix.rows
        for column, images in zip(matrix.columns, row.cells, strict=True)
        if images
    }


def test_a_matrix_counts_the_children_of_a_node() -> None:
    outcomes = outcomes_of(
        COLOURS,
        [
            ([RED], RED),
            ([RED], YELLOW),
            ([RED], BLUE),
            ([BLUE], RED),
            ([WARM], YELLOW),  # its label does not say more
            ([YELLOW, BLUE], BLUE),  # right: in the row of what was predicted
        ],
    )
    top = confusion_matrix(outcomes, ())
    assert cells(top) == {("=Warm", "=Warm"): 3, ("=Warm", "=Cold"): 1, ("=Cold", "=Warm"): 1, ("=Cold", "=Cold"): 1}
    warm = confusion_matrix(outcomes, WARM)
    assert cells(warm) == {
        ("=Red", "=Red"): 1,
        ("=Red", "=Yellow"): 1,
        ("=Red", ELSEWHERE): 1,
        (ELSEWHERE, "=Red"): 1,
    }
    assert (warm.images, warm.untested) == (4, 1)
    for matrix in (top, warm):
        for (row, column), images in cells(matrix).items():
            assert len(images_of_cell(outcomes, matrix.node, None, row, column)) == images
    assert images_of_cell(outcomes, WARM, None, ELSEWHERE, "=Red") == ["003"]


def test_of_400_classes_those_with_the_most_mistakes_are_shown_and_any_can_be_chosen() -> None:
    paths = [(f"c{number:03d}",) for number in range(400)]
    rows: list[tuple[Sequence[TaxonomyPath], TaxonomyPath]] = [([path], path) for path in paths]
    rows += [([paths[7]], paths[9])] * 5 + [([paths[300]], paths[301])]
    outcomes = outcomes_of(Tree("class", "image", "choices", tuple(paths)), rows)
    matrix = confusion_matrix(outcomes, ())
    assert (len(matrix.columns), matrix.others, matrix.images) == (MOST_CLASSES + 1, 380, 406)
    assert {("=c007", "=c009"), ("=c300", "=c301"), (OTHERS, OTHERS)} <= cells(matrix).keys()
    focused = confusion_matrix(outcomes, (), "c399")
    assert ("=c399", "=c399") in cells(focused)
    for shown in (matrix, focused):
        for (row, column), images in cells(shown).items():
            assert len(images_of_cell(outcomes, (), shown.focus, row, column)) == images


def test_what_a_matrix_does_not_have() -> None:
    outcomes = outcomes_of(COLOURS, [([RED], RED)])
    assert confusion_matrix(outcomes, RED).rows == ()
    for node, focus, row, column in [
        (("Green",), None, "=Red", "=Red"),
        (WARM, "Green", "=Red", "=Red"),
        (WARM, None, "=Yellow", "=Red"),
        (WARM, None, "=Red", ELSEWHERE),
    ]:
        with pytest.raises(NotFoundError):
            images_of_cell(outcomes, node, focus, row, column)


def test_nodes_by_mistakes() -> None:
    outcomes = outcomes_of(COLOURS, [([RED], RED), ([RED], YELLOW), ([RED], BLUE), ([BLUE], RED), ([WARM], YELLOW)])
    rows = {row.node: row for row in node_rows(outcomes)}
    assert next(row.node for row in node_rows(outcomes)) == RED
    assert (rows[RED].images, rows[RED].predicted, rows[RED].right, rows[RED].mistakes) == (3, 2, 1, 3)
    assert (rows[RED].precision, rows[RED].recall, rows[RED].f1) == (1 / 2, 1 / 3, 2 / 5)
    assert (rows[YELLOW].images, rows[YELLOW].precision, rows[YELLOW].recall) == (0, 0.0, None)
    assert [row.node for row in node_rows(outcomes, WARM)] == [RED, YELLOW]
