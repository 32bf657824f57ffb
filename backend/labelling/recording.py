"""Recording of many events, of which some may be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taxonomist.storage.journal import Event, Journal
from taxonomist.taxonomy.errors import BadRequestError


def record_usable(
    journal: Journal, events: Sequence[Event], refused: Callable[[Event, BadRequestError], None]
) -> tuple[list[Event], int]:
    """Commit the events that can be stored; return them, and how many were new. `refused` is called for each other."""
    try:
        return list(events), journal.record(events)
    except BadRequestError as error:
        if len(events) == 1:
            refused(events[0], error)
            return [], 0
        # The journal does not say which event it refuses: bisect.
        half = len(events) // 2
        first, second = (record_usable(journal, part, refused) for part in (events[:half], events[half:]))
        return first[0] + second[0], first[1] + second[1]
