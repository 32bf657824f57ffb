"""A confusion matrix with words, shades and links."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from taxonomist.backend.status.evaluation.images import CellImages, EvaluatedImages
from taxonomist.backend.status.evaluation.matrix import OTHERS, Matrix, child_of
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes
from taxonomist.backend.status.images import ImageFilter
from taxonomist.backend.web.console.evaluation.address import Address
from taxonomist.backend.web.console.evaluation.wording import key_words
from taxonomist.backend.web.console.image_filters import query_of
from taxonomist.backend.web.console.language import Language
from taxonomist.taxonomy.paths import TaxonomyPath

_SHADES = 10


@dataclass(frozen=True)
class Cell:
    """A number of images with a link to them; `css` has the shade for their share of the row."""

    images: int
    css: str
    link: str | None


@dataclass(frozen=True)
class Line:
    """A row: its name with a link to the matrix below, and its cells."""

    name: str
    link: str | None
    is_focus: bool
    images: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MatrixTable:
    """A matrix as a table. `heads` are the names of the columns, each with whether it is the focus."""

    matrix: Matrix
    heads: tuple[tuple[str, bool], ...]
    lines: tuple[Line, ...]


def link_to_images(images: EvaluatedImages) -> str:
    """Return the address of the page with these images."""
    return f"images?{query_of(ImageFilter(evaluated=images))}"


def matrix_table(outcomes: ControlOutcomes, matrix: Matrix, address: Address, language: Language) -> MatrixTable:
    """Return the table of a matrix on the page of an address."""

    def cell(row: str, column: str, images: int, whole: int) -> Cell:
        if not images:
            return Cell(0, "", None)
        css = "mixed" if row == column == OTHERS else "right" if row == column else "wrong"
        wanted = CellImages(outcomes.version, outcomes.tree.control, matrix.node, matrix.focus, row, column)
        shade = ceil(_SHADES * images / whole)
        return Cell(images, f"{css} s{shade}", link_to_images(wanted))

    def is_focus(key: str) -> bool:
        return matrix.focus is not None and child_of(key) == matrix.focus

    return MatrixTable(
        matrix,
        tuple((key_words(key, language), is_focus(key)) for key in matrix.columns),
        tuple(
            Line(
                key_words(row.key, language),
                _below(outcomes, (*matrix.node, child), address) if (child := child_of(row.key)) else None,
                is_focus(row.key),
                row.images,
                tuple(
                    cell(row.key, column, images, row.images)
                    for column, images in zip(matrix.columns, row.cells, strict=True)
                ),
            )
            for row in matrix.rows
        ),
    )


def _below(outcomes: ControlOutcomes, node: TaxonomyPath, address: Address) -> str | None:
    """Return the link to the matrix below a node, None for a leaf."""
    has_children = len(outcomes.tree.children(outcomes.tree.index[node]))
    return replace(address, node=node, focus=None).link if has_children else None
