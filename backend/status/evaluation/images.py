"""The images behind a number of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taxonomist.backend.services import Services
from taxonomist.backend.status.evaluation.comparison import Became, images_of_change
from taxonomist.backend.status.evaluation.matrix import images_of_cell
from taxonomist.backend.status.evaluation.outcomes import control_outcomes
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import MAX_LEVELS

_LEVELS = set(map(str, range(MAX_LEVELS + 1)))


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


@dataclass(frozen=True)
class ChangeImages:
    """The images of a comparison, see `comparison.LevelChange`."""

    version: str
    control: str
    other: str
    level: int
    became: Became

    @property
    def values(self) -> tuple[str, ...]:
        """The texts that `images_from` reads."""
        return "change", self.version, self.control, self.other, str(self.level), self.became


EvaluatedImages = CellImages | ChangeImages


def images_from(values: Sequence[str]) -> EvaluatedImages | None:
    """Return the images that texts name, None without texts. Raises `BadRequestError`."""
    match values:
        case []:
            return None
        case ["cell", version, control, focus, row, column, *node]:
            return CellImages(version, control, tuple(node), focus or None, row, column)
        case ["change", version, control, other, level, ("better" | "worse" | "right" | "wrong") as became] if (
            level in _LEVELS
        ):
            return ChangeImages(version, control, other, int(level), became)
    raise BadRequestError("The address does not name images of an evaluation.", hint="Open them from its page.")


def ids_of(services: Services, project: str, wanted: EvaluatedImages) -> list[str]:
    """Return the ids of the images in order, also of those that have left the project since.

    Raises `NotFoundError` and `DamagedError`.
    """
    if isinstance(wanted, ChangeImages):
        return images_of_change(
            services, project, wanted.version, wanted.other, wanted.control, wanted.level, wanted.became
        )
    outcomes = control_outcomes(services, project, wanted.version, wanted.control)
    return images_of_cell(outcomes, wanted.node, wanted.focus, wanted.row, wanted.column)
