"""The images behind a number of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taxonomist.backend.services import Services
from taxonomist.backend.status.evaluation.matrix import images_of_cell
from taxonomist.backend.status.evaluation.outcomes import control_outcomes
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class CellImages:
    """The images of a cell of a confusion matrix, see `matrix.Matrix`."""

    version: str
    control: str
    node: TaxonomyPath
    focus: str | None
    row: str
    column: str

    @property
    def values(self) -> tuple[str, ...]:
        """The texts that `images_from` reads."""
        return "cell", self.version, self.control, self.focus or "", self.row, self.column, *self.node


EvaluatedImages = CellImages


def images_from(values: Sequence[str]) -> EvaluatedImages | None:
    """Return the images that texts name, None without texts. Raises `BadRequestError`."""
    match values:
        case []:
            return None
        case ["cell", version, control, focus, row, column, *node]:
            return CellImages(version, control, tuple(node), focus or None, row, column)
    raise BadRequestError("The address does not name images of an evaluation.", hint="Open them from its page.")


def ids_of(services: Services, project: str, wanted: EvaluatedImages) -> list[str]:
    """Return the ids of the images in order, also of those that have left the project since.

    Raises `NotFoundError` and `DamagedError`.
    """
    outcomes = control_outcomes(services, project, wanted.version, wanted.control)
    return images_of_cell(outcomes, wanted.node, wanted.focus, wanted.row, wanted.column)
