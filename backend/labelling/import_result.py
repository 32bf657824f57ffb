"""The result of an import, and the rows or tasks that it could not use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MOST_PROBLEMS = 1000


@dataclass(frozen=True)
class ImportResult:
    """The result of an import: how many images, annotations and labelled images, and the problems.

    `problems` has the first `MOST_PROBLEMS` only; `left_out` counts all of them.
    """

    project: str
    images: int
    annotations: int
    labelled: int
    problems: tuple[str, ...]
    left_out: int


class Problems:
    """What an import could not use. All problems are counted; the first `MOST_PROBLEMS` are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[str] = []

    def extend(self, problems: Collection[str]) -> None:
        """Add problems."""
        self.count += len(problems)
        self._kept += list(problems)[: max(0, MOST_PROBLEMS - len(self._kept))]

    def first(self) -> tuple[str, ...]:
        """Return the problems that were kept."""
        return tuple(self._kept)
