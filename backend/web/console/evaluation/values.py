"""What the page of the evaluation shows, for the parameters of its address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from taxonomist.backend.services import Services
from taxonomist.backend.status.evaluation.collect import Evaluated, collect_evaluation
from taxonomist.backend.status.evaluation.images import CellImages
from taxonomist.backend.status.evaluation.matrix import Matrix, child_of, confusion_matrix
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes
from taxonomist.backend.status.images import ImageFilter
from taxonomist.backend.web.console.evaluation.wording import key_words, node_words
from taxonomist.backend.web.console.image_filters import query_of
from taxonomist.backend.web.console.language import Language
from taxonomist.taxonomy.paths import TaxonomyPath

_SHADES = 10


@dataclass(frozen=True)
class Address:
    """The parameters of the page. None and (): what is shown without them."""

    version: str | None = None
    control: str | None = None
    node: TaxonomyPath = ()
    focus: str | None = None

    @classmethod
    def of(cls, arguments: MultiDict[str, str]) -> Address:
        """Return those of a query."""
        return cls(
            version=arguments.get("version") or None,
            control=arguments.get("control") or None,
            node=tuple(arguments.getlist("at")),
            focus=arguments.get("focus") or None,
        )

    @property
    def link(self) -> str:
        """The address of the page, from another page of the project."""
        pairs = [(name, value) for name in ("version", "control", "focus") if (value := getattr(self, name))]
        return "evaluation?" + urlencode([*pairs, *(("at", name) for name in self.node)])


@dataclass(frozen=True)
class Cell:
    """A number of images with a link to them; `css` has the shade for their share of the row."""

    images: int
    css: str
    link: str | None


@dataclass(frozen=True)
class Line:
    """A row of a matrix: a name with a link, and its cells."""

    name: str
    link: str | None
    is_focus: bool
    images: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A matrix with words and links. `heads` are the names of the columns."""

    matrix: Matrix
    heads: tuple[str, ...]
    lines: tuple[Line, ...]


def evaluation_values(
    services: Services, project: str, arguments: MultiDict[str, str], language: Language
) -> dict[str, object]:
    """Return the values of the template. Raises `NotFoundError` for a parameter that names nothing, and
    `DamagedError`."""
    address = Address.of(arguments)
    found = collect_evaluation(services, project, address.version, address.control)
    values: dict[str, object] = {"evaluated": found, "controls": _controls(found, address)}
    if found.outcomes is None:
        return values
    outcomes = found.outcomes
    address = replace(address, version=outcomes.version, control=outcomes.tree.control)
    matrix = confusion_matrix(outcomes, address.node, address.focus)
    return values | {
        "outcomes": outcomes,
        "table": _table(outcomes, matrix, address, language),
        "crumbs": [
            (node_words(name, language), replace(address, node=address.node[: place + 1], focus=None).link)
            for place, name in enumerate(address.node)
        ],
        "top": replace(address, node=(), focus=None).link,
    }


def _controls(found: Evaluated, address: Address) -> list[tuple[str, str, bool]]:
    """Return name and link of each control, and whether it is shown; nothing for a single one."""
    if len(found.controls) < 2:
        return []
    shown = address.control or found.controls[0]
    return [(name, Address(address.version, name).link, name == shown) for name in found.controls]


def _table(outcomes: ControlOutcomes, matrix: Matrix, address: Address, language: Language) -> Table:
    def cell(row: str, column: str, images: int, whole: int) -> Cell:
        if not images:
            return Cell(0, "", None)
        is_right = row == column and child_of(row) is not None
        wanted = CellImages(outcomes.version, outcomes.tree.control, matrix.node, matrix.focus, row, column)
        shade = ceil(_SHADES * images / whole)
        link = f"images?{query_of(ImageFilter(evaluated=wanted))}"
        return Cell(images, f"{'right' if is_right else 'wrong'} s{shade}", link)

    return Table(
        matrix,
        tuple(key_words(key, language) for key in matrix.columns),
        tuple(
            Line(
                key_words(row.key, language),
                _below(outcomes, matrix, address, child_of(row.key)),
                matrix.focus is not None and child_of(row.key) == matrix.focus,
                row.images,
                tuple(
                    cell(row.key, column, images, row.images)
                    for column, images in zip(matrix.columns, row.cells, strict=True)
                ),
            )
            for row in matrix.rows
        ),
    )


def _below(outcomes: ControlOutcomes, matrix: Matrix, address: Address, child: str | None) -> str | None:
    """Return the link to the matrix below a child, or for a leaf, where not all fit, to that with its confusions."""
    if not child:
        return None
    node = (*matrix.node, child)
    if len(outcomes.tree.children(outcomes.tree.index[node])):
        return replace(address, node=node, focus=None).link
    return replace(address, focus=child).link if matrix.others else None
