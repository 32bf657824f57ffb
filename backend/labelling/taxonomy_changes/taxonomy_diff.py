"""What changes of the taxonomy mean for the labels of a project: what is certain, and what a person is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import outside_of
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.label_config.former_nodes import LabelDecision
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree_changes import NodeMatch


@dataclass(frozen=True)
class ChangedNode:
    """A node that is gone, the number of labels that name it or a node below it, and the node in its place.

    `old` is `()` where the control itself is gone; the one in its place is `new_control`. `new` is None where nothing
    is proposed. `reason` says why it is certain, or proposed.
    """

    control: str
    old: TaxonomyPath
    new: TaxonomyPath | None
    labels: int
    reason: str
    new_control: str | None = None

    def __str__(self) -> str:
        new = "?" if self.new is None else _named(self.new_control or "", self.new)
        return f"{_named(self.control, self.old)} → {new}"


@dataclass(frozen=True)
class TaxonomyDiff:
    """The nodes that are gone and about which no person has decided.

    `certain` matches cannot be confused with others: `taxonomy apply` records them. `asked` are for a person, with a
    proposal where there is one. Nodes without labels are asked for nothing.
    """

    certain: tuple[ChangedNode, ...] = ()
    asked: tuple[ChangedNode, ...] = ()

    @property
    def labels(self) -> tuple[int, int]:
        """The number of labels whose node is certain, and of those that a person is asked for."""
        return sum(node.labels for node in self.certain), sum(node.labels for node in self.asked)


def taxonomy_diff(services: Services, project: str) -> TaxonomyDiff:
    """Return what the labels that were decided name outside the taxonomy, and what the nodes that are gone became.

    Nothing is changed. Raises `ConfigError` when the project's labelling config is not known or has no taxonomy.
    """
    rows = services.journal.unknown_paths.labels(project)
    now, record = services.label_config(project), services.projects.get(project)
    matches = certain_matches(record)
    record = record.model_copy(update={"label_decisions": (*record.label_decisions, *map(decision_of, matches))})
    config = record.read_config()
    before, after = ({tree.control: tree for tree in found.trees} for found in (now, config))
    counts = dict.fromkeys(((match.control, match.old) for match in matches), 0)
    for row in rows:
        control = config.present(row.control)
        tree = after.get(control)
        if tree is None or tree.node_of(row.path) is None:
            continue
        if row.control in before and before[row.control].node_of(row.path):
            continue  # the image is not decided again yet
        keys = [key for key in counts if config.present(key[0]) == control and row.path[: len(key[1])] == key[1]]
        if keys:
            counts[max(keys, key=lambda key: len(key[1]))] += row.labels
    proposals = {(config.present(match.control), match.old): match for match in record.matches}
    return TaxonomyDiff(
        tuple(
            ChangedNode(
                match.control,
                match.old,
                match.new,
                counts[match.control, match.old],
                str(match.reason),
                match.new_control,
            )
            for match in matches
        ),
        tuple(
            ChangedNode(
                node.control,
                node.path,
                node.nearest,
                node.labels,
                str(match.reason)
                if (match := proposals.get((node.control, node.path))) and match.new == node.nearest
                else "the most similar path"
                if node.nearest
                else "",
            )
            for node in outside_of(rows, record, config).gone
        ),
    )


def certain_matches(record: ProjectRecord) -> tuple[NodeMatch, ...]:
    """Return the certain matches of nodes that are gone, about which no person has decided and which are still right.

    Raises `ConfigError` when the labelling config has no taxonomy.
    """
    open_ = [
        match
        for match in record.matches
        if match.certain and not any(decision.concerns(match.control, match.old) for decision in record.label_decisions)
    ]
    if not open_:
        return ()
    decisions = (*record.label_decisions, *map(decision_of, open_))
    config = record.model_copy(update={"label_decisions": decisions}).read_config()
    trees = {tree.control: tree for tree in config.trees}
    return tuple(
        match
        for match in open_
        if (tree := trees.get(config.present(match.control))) and (not match.old or tree.node_of(match.old) is not None)
    )


def decision_of(match: NodeMatch) -> LabelDecision:
    """Return the decision that a match stands for, as of now."""
    return LabelDecision(match.control, match.old, match.new, datetime.now(UTC), match.new_control)


def _named(control: str, path: TaxonomyPath) -> str:
    return format_path(path) if path else f'control "{control}"'
