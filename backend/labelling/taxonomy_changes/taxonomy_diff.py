"""What changes of the taxonomy mean for the labels of a project: what is certain, and what a person is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import OutsideNode, outside_of
from taxonomist.backend.labelling.taxonomy_changes.looks import alike
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.label_config.former_nodes import LabelDecision, with_those_above
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

    `taxonomy apply` records the `certain` ones, see `tree_changes.matching`. `asked` are for a person, with a
    proposal where there is one. Nodes without labels are asked for nothing.
    """

    certain: tuple[ChangedNode, ...] = ()
    asked: tuple[ChangedNode, ...] = ()

    @property
    def labels(self) -> tuple[int, int]:
        """The number of labels whose node is certain, and of those that a person is asked for."""
        return sum(node.labels for node in self.certain), sum(node.labels for node in self.asked)


def taxonomy_diff(services: Services, project: str, *, with_looks: bool = False) -> TaxonomyDiff:
    """Return what the labels that were decided name outside the taxonomy, and what the nodes that are gone became.

    `with_looks` proposes, where no name does, the node whose images look most alike, which reads all labels. Nothing is
    changed. Raises `ConfigError` when the project's labelling config is not known or has no taxonomy.
    """
    rows = services.journal.unknown_paths.labels(project)
    now, record = services.label_config(project), services.projects.get(project)
    matches = certain_matches(record)
    record = _as_decided(record, matches)
    config = record.read_config()
    before, after = ({tree.control: tree for tree in found.trees} for found in (now, config))
    counts = Counter[tuple[str, TaxonomyPath]]()
    matched = {(config.present(match.control), match.old): (match.control, match.old) for match in matches}
    for row in rows:
        control = config.present(row.control)
        tree = after.get(control)
        if tree is None or tree.node_of(row.path) is None:
            continue
        if row.control in before and before[row.control].node_of(row.path):
            continue  # the image is not decided again yet
        if node := next((node for node in with_those_above(control, row.path) if node in matched), None):
            counts[matched[node]] += row.labels
    proposals = {(config.present(match.control), match.old): match for match in record.matches}
    gone = outside_of(rows, record, config).gone
    unlike = [(node.control, node.path) for node in gone if node.nearest is None]
    looks = alike(services, project, config, unlike) if with_looks else {}
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
        tuple(_asked(node, proposals, looks) for node in gone),
    )


def _asked(
    node: OutsideNode,
    proposals: Mapping[tuple[str, TaxonomyPath], NodeMatch],
    looks: Mapping[tuple[str, TaxonomyPath], TaxonomyPath],
) -> ChangedNode:
    key = (node.control, node.path)
    if node.nearest is None:
        return ChangedNode(*key, looks.get(key), node.labels, "its images look most alike" if key in looks else "")
    match = proposals.get(key)
    reason = str(match.reason) if match and match.new == node.nearest else "the most similar path"
    return ChangedNode(*key, node.nearest, node.labels, reason)


def certain_matches(record: ProjectRecord) -> tuple[NodeMatch, ...]:
    """Return the certain matches of nodes that are gone, about which no person has decided and which are still right.

    Raises `ConfigError` when the labelling config has no taxonomy.
    """
    decided = {decision.node for decision in record.label_decisions}
    open_ = [
        match
        for match in record.matches
        if match.certain and decided.isdisjoint(with_those_above(match.control, match.old))
    ]
    if not open_:
        return ()
    config = _as_decided(record, open_).read_config()
    trees = {tree.control: tree for tree in config.trees}
    return tuple(
        match
        for match in open_
        if (tree := trees.get(config.present(match.control))) and (not match.old or tree.node_of(match.old) is not None)
    )


def decision_of(match: NodeMatch, at: datetime) -> LabelDecision:
    """Return the decision that a match stands for."""
    return LabelDecision(match.control, match.old, match.new, at, match.new_control)


def _as_decided(record: ProjectRecord, matches: Sequence[NodeMatch]) -> ProjectRecord:
    """Return the record as it would be with the matches as decisions, all of one time: the config is cached by them."""
    decisions = (decision_of(match, datetime.fromtimestamp(0, UTC)) for match in matches)
    return record.model_copy(update={"label_decisions": (*record.label_decisions, *decisions)})


def _named(control: str, path: TaxonomyPath) -> str:
    return format_path(path) if path else f'control "{control}"'
