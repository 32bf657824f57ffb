"""Checks of labels that name what the taxonomy does not have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from taxonomist.backend.connection.doctor.result import Check, failed, passed, warned
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import (
    count_labels,
    describe,
    labels_outside,
    what_to_do,
)
from taxonomist.backend.labelling.taxonomy_changes.taxonomy_diff import taxonomy_diff
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
        if certain := taxonomy_diff(services, project).labels[0]:
            of = f"--project {shlex.quote(project)}"
            fix = (
                f"`taxonomist taxonomy diff {of}` shows what became of the nodes, and `taxonomist taxonomy apply {of} "
                f"--yes` lets {count_labels(certain)} count as the nodes that are certain."
            )
        else:
            fix = what_to_do(outside.gone[0], project)
        yield failed(NAME, detail, fix)
    if outside.unknown:
        detail = f"{describe(outside.unknown, had='never had')}; they count as far as their beginning is known"
        fix = f"{what_to_do(outside.unknown[0], project)} Or add the names to the labelling config."
        yield warned(NAME, detail, fix)
    if not outside.gone and not outside.unknown:
        total = sum(node.labels for node in outside.accepted)
        yield passed(NAME, f"{total}, of which a person has accepted the loss" if total else "none")
