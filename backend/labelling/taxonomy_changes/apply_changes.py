"""Applies what became of nodes that are gone: the certain matches, or those that a person names, all in one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from taxonomist.backend.labelling.taxonomy_changes.label_decisions import (
    Decided,
    decided_config,
    read_rename,
    record_decisions,
)
from taxonomist.backend.labelling.taxonomy_changes.taxonomy_diff import (
    TaxonomyDiff,
    certain_matches,
    decision_of,
    taxonomy_diff,
)
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import format_path


@dataclass(frozen=True)
class Rename:
    """A node that is gone and the one in its place, as a person writes them."""

    old: str
    new: str
    control: str | None = None


def map_labels(services: Services, project: str, renames: Sequence[Rename], *, dry_run: bool = False) -> Decided:
    """Do what `rename_labels` does for several nodes, all or none of them; with `dry_run`, none.

    Raises what `rename_labels` raises, and `ConfigError` for a node that is named twice.
    """
    config = decided_config(services, project)
    decisions = [read_rename(services, project, config, rename.old, rename.new, rename.control) for rename in renames]
    counts = Counter(decision.node for decision in decisions)
    if double := next((key for key, count in counts.items() if count > 1), None):
        raise ConfigError(f"{format_path(double[1]) or double[0]} is renamed twice.", hint="Name each node once.")
    return record_decisions(services, project, decisions, dry_run=dry_run)


def apply_certain(services: Services, project: str, *, dry_run: bool = False) -> Decided:
    """Let the labels of nodes that are gone count as the nodes that they certainly became; with `dry_run`, none.

    Raises `NotFoundError` for a project that is not known, and `ConfigError` when it has no taxonomy.
    """
    decided_config(services, project)
    matches, now = certain_matches(services.projects.get(project)), datetime.now(UTC)
    return record_decisions(services, project, [decision_of(match, now) for match in matches], dry_run=dry_run)


def open_changes(services: Services, project: str) -> TaxonomyDiff:
    """Return the nodes that are gone and about which no person has decided, after all labels are decided.

    Raises what `apply_certain` raises.
    """
    decided_config(services, project)
    return taxonomy_diff(services, project, with_looks=True)
