"""Tries again what was set aside: `taxonomist retry`, and the start of a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.set_aside import Item, ItemKind


def try_again(services: Services, items: Iterable[Item]) -> Counter[ItemKind]:
    """Enqueue the jobs among the items that `SetAside.retry` returned, and count the items of each kind.

    The worker's next pulse tries the others.
    """
    found: Counter[ItemKind] = Counter()
    for item in items:
        found[item.kind] += 1
        if item.kind is ItemKind.JOB and item.key in frozenset(JobKind):
            services.jobs.enqueue(JobKind(item.key), item.project, "it was set aside and is tried again")
    return found
