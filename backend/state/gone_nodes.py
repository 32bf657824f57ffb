"""What a new labelling config changes in a project's record: the nodes that are gone, what they are matched to, and
decisions about them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from taxonomist.taxonomy.errors import ConfigError, ConfigTooLargeError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.label_config.former_nodes import gone_nodes, with_those_above
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_changes import NodeMatch, match_configs

if TYPE_CHECKING:
    from taxonomist.backend.state.project_records import ProjectRecord

log = logging.getLogger(__name__)

MOST_GONE = 50_000
"""Nodes that a project's taxonomy had once and that are remembered: as many as a taxonomy may have."""


def gone_with(record: ProjectRecord, xml: str) -> dict[str, object]:
    """Return the fields that say which nodes are gone once the labelling config is this one, and what they became.

    Nodes are matched within this one change, from the config before it. A decision on a node counts for the time that
    it was about: when the node has come back and goes again, a person is asked again. Raises `ConfigTooLargeError`.
    """
    before = _usable(record.label_config) or _usable(record.former_config)
    try:
        now = parse_label_config(xml)
    except ConfigTooLargeError:
        raise
    except ConfigError:
        former = record.label_config if _usable(record.label_config) else record.former_config
        return {"former_config": former}
    for note in now.notes:
        if before is None or note not in before.notes:
            log.warning("project %s: %s", record.project, note)
    if before is None:
        return {"former_config": ""}
    gone = gone_nodes(before, now, record.gone)
    anew = {control: set(paths) - set(record.gone.get(control, ())) for control, paths in gone.items()}
    gone = _newest(record.project, gone, anew)
    controls = {tree.control for tree in now.trees}
    went = {node for control, paths in anew.items() for path in paths for node in with_those_above(control, path)}
    kept = tuple(
        decision
        for decision in record.label_decisions
        if (decision.old or decision.control not in controls)  # of a whole control: until it is back
        and decision.node not in went
    )
    if len(kept) < len(record.label_decisions):
        log.warning(
            "project %s: %d decisions on nodes that came back count no longer, see `taxonomist status`",
            record.project,
            len(record.label_decisions) - len(kept),
        )
    matches = _matches(record, match_configs(before, now), gone)
    return {"former_config": "", "gone": gone, "label_decisions": kept, "matches": matches}


def same_nodes(one: ProjectRecord, other: ProjectRecord) -> bool:
    """Return whether `gone_with` returns the same for both records."""
    fields = ("label_config", "former_config", "gone", "label_decisions", "matches")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _matches(
    record: ProjectRecord, new: tuple[NodeMatch, ...], gone: Mapping[str, tuple[TaxonomyPath, ...]]
) -> tuple[NodeMatch, ...]:
    """Return the matches of this change, and earlier ones, of what is still gone; the newest of each node."""
    known = {(match.control, match.old): match for match in (*record.matches, *new)}
    paths = {control: set(nodes) for control, nodes in gone.items()}
    return tuple(
        match
        for match in known.values()
        if match.control in gone and (not match.old or match.old in paths[match.control])
    )


def _newest(
    project: str, gone: dict[str, tuple[TaxonomyPath, ...]], anew: Mapping[str, set[TaxonomyPath]]
) -> dict[str, tuple[TaxonomyPath, ...]]:
    """Return at most `MOST_GONE` of the nodes that are gone: first those that went now."""
    if (count := sum(map(len, gone.values()))) <= MOST_GONE:
        return gone
    log.warning("project %s: of %d nodes that the taxonomy had once, %d are remembered", project, count, MOST_GONE)
    nodes = [(control, path) for control, paths in gone.items() for path in paths]
    nodes.sort(key=lambda node: node[1] not in anew[node[0]])
    kept: dict[str, list[TaxonomyPath]] = {}
    for control, path in nodes[:MOST_GONE]:
        kept.setdefault(control, []).append(path)
    return {control: tuple(sorted(paths)) for control, paths in kept.items()}


def _usable(xml: str) -> LabelConfig | None:
    try:
        return parse_label_config(xml) if xml else None
    except ConfigError:
        return None
