"""Labels that name nodes which the taxonomy does not have. Those on nodes that it had once hold back the training."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.storage.journal import UnknownLabels
from taxonomist.taxonomy.errors import ConfigError, HeldError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.label_config.former_nodes import with_those_above
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree

_SHOWN = 3
_LONGEST = 200  # characters of a name in a command that is proposed
MOST_NEAREST = 100  # nodes of which the nearest one is looked for: those with the most labels


@dataclass(frozen=True)
class OutsideNode:
    """A node that the taxonomy does not have, and the number of labels that name it or a node below it.

    `path` is `()` where the control itself is gone. `nearest` is the node that it was matched to when the taxonomy
    changed, else the one with the most similar name, if there is one and this is among the `MOST_NEAREST` nodes with
    the most labels.
    """

    control: str
    path: TaxonomyPath
    labels: int
    nearest: TaxonomyPath | None = None

    @property
    def name(self) -> str:
        """The node as it is written on the command line; a control that is gone has its own name."""
        return " / ".join(self.path) or self.control

    def __str__(self) -> str:
        what = shorten(format_path(self.path)) if self.path else f'the control "{shorten(self.control)}"'
        near = f"; the nearest is {shorten(format_path(self.nearest))}" if self.nearest else ""
        return f"{what} ({count_labels(self.labels)}{near})"


@dataclass(frozen=True)
class LabelsOutside:
    """The labels of a project that name what its taxonomy does not have, by the topmost node that is not there.

    `gone` are nodes that the taxonomy had once: a person has to decide about them. `unknown` are names that it never
    had, `accepted` the nodes whose loss a person has accepted.
    """

    gone: tuple[OutsideNode, ...] = ()
    unknown: tuple[OutsideNode, ...] = ()
    accepted: tuple[OutsideNode, ...] = ()


def labels_outside(services: Services, project: str) -> LabelsOutside:
    """Return what the labels of the images that were decided name outside the taxonomy.

    Raises `ConfigError` when the project's labelling config is not known or has no taxonomy.
    """
    found = services.journal.unknown_paths.labels(project)
    if not found:
        return LabelsOutside()
    return outside_of(found, services.projects.get(project), services.label_config(project))


def outside_of(found: Sequence[UnknownLabels], record: ProjectRecord, config: LabelConfig) -> LabelsOutside:
    """Return what these labels name outside of a taxonomy, with the decisions and matches of a project's record."""
    trees = {tree.control: tree for tree in config.trees}
    proposed = {(config.present(match.control), match.old): match.new for match in record.matches if match.old}
    former = {control: _former(record, config, control) for control in {config.present(row.control) for row in found}}
    losses = {decision.node for decision in record.label_decisions if decision.new is None}
    gone, unknown, accepted = Counter[_Node](), Counter[_Node](), Counter[_Node]()
    for row in found:
        control = config.present(row.control)
        tree = trees.get(control)
        if tree is not None and tree.node_of(row.path):
            continue  # the taxonomy has it now; the image is not decided again yet
        if loss := next((node for node in with_those_above(control, row.path) if node in losses), None):
            accepted[loss] += row.labels
        elif tree is None:
            gone[control, ()] += row.labels
        else:
            missing = [path for path in prefixes(row.path) if tree.node_of(path) is None]
            node = next((path for path in missing if (control, path) in proposed), missing[0])
            known = unknown if former[control].isdisjoint(prefixes(row.path)) else gone
            known[control, node] += row.labels
    return LabelsOutside(*(tuple(_nodes(counts, trees, proposed)) for counts in (gone, unknown, accepted)))


def training_hold(services: Services, project: str) -> HeldError | None:
    """Return why the project must not be trained before a person decides, None when nothing holds it back."""
    try:
        gone = labels_outside(services, project).gone
    except ConfigError:  # then nothing can be trained, and the training reports it
        return None
    if not gone:
        return None
    return HeldError(
        f"Project {project}: training and promotion wait for a person's decision, because "
        f"{describe(gone)}. The served version stays.",
        hint=f"{what_to_do(gone[0], project)} `taxonomist taxonomy diff --project {project}` shows all.",
    )


def describe(nodes: Sequence[OutsideNode], *, had: str = "has no longer") -> str:
    """Return in words how many labels name nodes outside the taxonomy, and which nodes these are."""
    total = sum(node.labels for node in nodes)
    more = f", and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    verb = "names" if total == 1 else "name"
    what = "a node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    shown = ", ".join(map(str, nodes[:_SHOWN]))
    return f"{count_labels(total)} {verb} {what} that the taxonomy {had}: {shown}{more}"


def what_to_do(node: OutsideNode, project: str) -> str:
    """Return the two commands with which a person decides about a node."""
    new = shlex.quote(" / ".join(node.nearest)) if node.nearest else "NEW"
    old = shlex.quote(node.name) if len(node.name) <= _LONGEST else "NODE"
    of = f"--project {shlex.quote(project)}"
    return f"`taxonomist labels rename {old} {new} {of}` or `taxonomist labels accept-loss {old} {of}`."


def count_labels(count: int) -> str:
    """Return a number of labels in words."""
    return "1 label" if count == 1 else f"{count} labels"


_Node = tuple[str, TaxonomyPath]


def _former(record: ProjectRecord, config: LabelConfig, control: str) -> set[TaxonomyPath]:
    """Return the nodes that a control had once, also under its former name."""
    names = [control, *(former for former, now in config.former_controls.items() if now == control)]
    return {path for name in names for path in record.gone.get(name, ())}


def _nodes(
    counts: Counter[_Node], trees: Mapping[str, Tree], proposed: Mapping[_Node, TaxonomyPath]
) -> Iterable[OutsideNode]:
    for number, ((control, path), labels) in enumerate(counts.most_common()):
        tree = trees.get(control) if path else None
        nearest = tree.node_of(proposed.get((control, path), ())) if tree else None
        if tree and nearest is None and number < MOST_NEAREST:
            nearest = tree.nearest(tree.current(path))
        yield OutsideNode(control, path, labels, nearest)
