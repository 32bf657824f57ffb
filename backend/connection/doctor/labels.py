"""Checks of labels that name what the taxonomy does not have."""

from __future__ import annotations

from collections.abc import Iterator

from taxonomist.backend.connection.doctor.check import Check, failed, passed, warned
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import describe, labels_outside, what_to_do
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError

NAME = "labels outside the taxonomy"


def checks(services: Services, project: str) -> Iterator[Check]:
    """Yield whether labels name nodes that are gone, which holds back the training, or names that never were there."""
    try:
        outside = labels_outside(services, project)
    except ConfigError:
        return  # another check reports it
    if outside.gone:
        detail = f"{describe(outside.gone)}; training and promotion wait for your decision"
        yield failed(NAME, detail, what_to_do(outside.gone[0], project))
    if outside.unknown:
        detail = f"{describe(outside.unknown, had='never had')}; they count as far as their beginning is known"
        fix = f"{what_to_do(outside.unknown[0], project)} Or add the names to the labelling config."
        yield warned(NAME, detail, fix)
    if not outside.gone and not outside.unknown:
        total = sum(node.labels for node in outside.accepted)
        yield passed(NAME, f"{total}, of which a person has accepted the loss" if total else "none")
