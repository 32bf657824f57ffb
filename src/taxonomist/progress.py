"""How long work reports its progress."""

from collections.abc import Callable

StepProgress = Callable[[str, float], None]
"""Called with the step that is being done and the share of the whole work that is done, 0 to 1."""

CountProgress = Callable[[int, int], None]
"""Called with the number of items that are done and the number of all items."""


def rising(progress: StepProgress) -> StepProgress:
    """Return a `StepProgress` that passes every step on, with a share that never falls."""
    most = 0.0

    def report(step: str, share: float) -> None:
        nonlocal most
        most = max(most, share)
        progress(step, most)

    return report


def ignore_steps(step: str, share: float) -> None:
    """A `StepProgress` for callers that show nothing."""


def ignore_counts(done: int, total: int) -> None:
    """A `CountProgress` for callers that show nothing."""
