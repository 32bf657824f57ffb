"""How long work reports its progress."""

from collections.abc import Callable

StepProgress = Callable[[str, float], None]
"""Called with the step that is being done and the share of the whole work that is done, 0 to 1."""

CountProgress = Callable[[int, int], None]
"""Called with the number of items that are done and the number of all items."""


def ignore_steps(step: str, share: float) -> None:
    """A `StepProgress` for callers that show nothing."""


def ignore_counts(done: int, total: int) -> None:
    """A `CountProgress` for callers that show nothing."""
