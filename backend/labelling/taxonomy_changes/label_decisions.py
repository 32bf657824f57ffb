"""A person's decisions on labels whose node is gone: recorded in the project's record, and applied to every label that
names the node, whenever it arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rapidfuzz import process

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import LabelsOutside, labels_outside
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.label_config.former_nodes import LabelDecision, spellings_of, with_those_above
from taxonomist.taxonomy.names import clean_name
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes

_SEPARATORS = (" / ", "/", " › ", "›", " > ", ">")
_SIMILAR = 3


@dataclass(frozen=True)
class Decided:
    """What a decision did: the decisions that were recorded or withdrawn, the number of labels that name their nodes,
    and what is outside the taxonomy now."""

    decisions: tuple[LabelDecision, ...]
    labels: int
    outside: LabelsOutside


@dataclass(frozen=True)
class _Place:
    """A node with one of its spellings. The path is `()` for a control that is gone."""

    control: str
    path: TaxonomyPath
    spelled: TaxonomyPath

    @property
    def name(self) -> str:
        return " / ".join(self.spelled) or self.control

    @property
    def texts(self) -> set[str]:
        """How a person may write it."""
        return {clean_name(separator.join(self.spelled)) for separator in _SEPARATORS} if self.spelled else {self.name}


def rename_labels(services: Services, project: str, old: str, new: str, *, control: str | None = None) -> Decided:
    """Let the labels that name `old`, a node that is gone, or a node below it, count as `new` and the nodes below that.

    A node is written `"A / B / C"`, as the labelling config has it, or as a JSON list. `old` may name a control that is
    gone, `new` then the one in its place. `control` says which one is meant where several had the node.

    Raises `NotFoundError` for a project or node that is not known, with similar names, and `ConfigError` for an `old`
    that the taxonomy has.
    """
    config = decided_config(services, project)
    return record_decisions(services, project, [read_rename(services, project, config, old, new, control)])


def read_rename(
    services: Services, project: str, config: LabelConfig, old: str, new: str, control: str | None
) -> LabelDecision:
    """Return the decision that a person's words stand for. Raises what `rename_labels` raises."""
    place = _find_gone(services, project, config, old, control)
    now = datetime.now(UTC)
    if not place.path:
        controls = [_Place(tree.control, (), ()) for tree in config.trees]
        target = _find(new, controls, f"control of project {project}")
        return LabelDecision(place.control, (), (), now, target.control)
    tree = next((tree for tree in config.trees if tree.control == place.control), None)
    if tree is None:
        raise ConfigError(
            f'The control "{place.control}" of "{old}" is gone.',
            hint=f'Say first which one is in its place: taxonomist labels rename "{place.control}" CONTROL '
            f"--project {project}",
        )
    nodes = [_Place(tree.control, path, path) for path in tree.paths]
    nodes += [_Place(tree.control, path, spelled) for spelled, path in spellings_of(tree).items()]
    return LabelDecision(place.control, place.path, _find(new, nodes, "node of the taxonomy").path, now)


def accept_loss(services: Services, project: str, nodes: Sequence[str] = (), *, control: str | None = None) -> Decided:
    """Accept that the labels of these nodes that are gone, and of nodes below them, are lost; without nodes, of all.

    A label still counts as far as its beginning is in the taxonomy. Raises what `rename_labels` raises.
    """
    config, now = decided_config(services, project), datetime.now(UTC)
    if nodes:
        places = [_find_gone(services, project, config, node, control) for node in nodes]
        return record_decisions(
            services, project, [LabelDecision(place.control, place.path, None, now) for place in places]
        )
    gone = labels_outside(services, project).gone
    return record_decisions(services, project, [LabelDecision(node.control, node.path, None, now) for node in gone])


def undo(services: Services, project: str, node: str, *, control: str | None = None) -> Decided:
    """Withdraw the decision on a node. Raises `NotFoundError` when there is none, with similar names."""
    decided_config(services, project)
    record = services.projects.get(project)
    places = [_Place(decision.control, decision.old, decision.old) for decision in record.label_decisions]
    place = _find(node, [p for p in places if control in {None, p.control}], f"decision of project {project}")
    withdrawn = next(d for d in record.label_decisions if d.node == (place.control, place.path))
    _replace(services, project, [withdrawn], ())
    decide_anew(services, project)
    return Decided((withdrawn,), _labels(services, project, [withdrawn]), labels_outside(services, project))


def record_decisions(
    services: Services, project: str, decisions: Sequence[LabelDecision], *, dry_run: bool = False
) -> Decided:
    """Keep the decisions, in place of earlier ones on the same nodes, and decide the labels that they change.

    They are kept in one step; labels that are not decided when the process ends, the next one decides. With `dry_run`,
    nothing is kept.
    """
    labels = _labels(services, project, decisions)
    if dry_run or not decisions:
        return Decided(tuple(decisions), labels, labels_outside(services, project))
    _replace(services, project, decisions, decisions)
    decide_anew(services, project)
    return Decided(tuple(decisions), labels, labels_outside(services, project))


def _replace(services: Services, project: str, old: Sequence[LabelDecision], new: Sequence[LabelDecision]) -> None:
    """Keep the new decisions in place of those on the nodes of the old ones; decisions on other nodes stay."""
    nodes = {decision.node for decision in old}

    def replaced(record: ProjectRecord) -> Mapping[str, object]:
        kept = [decision for decision in record.label_decisions if decision.node not in nodes]
        return {"label_decisions": (*kept, *new)}

    services.projects.change(project, replaced)


def _labels(services: Services, project: str, decisions: Sequence[LabelDecision]) -> int:
    nodes = {decision.node for decision in decisions}
    rows = services.journal.unknown_paths.labels(project)
    return sum(row.labels for row in rows if not nodes.isdisjoint(with_those_above(row.control, row.path)))


def decided_config(services: Services, project: str) -> LabelConfig:
    """Return the labelling config without renames, after all labels are decided with it."""
    known = [record.project for record in services.projects]
    if project not in known:
        raise NotFoundError(f"Project {project} is not known.", hint=f"Known projects: {', '.join(known) or 'none'}.")
    decide_all_dirty(services, project)
    decide_anew(services, project)
    return parse_label_config(services.projects.get(project).label_config)


def _find_gone(services: Services, project: str, config: LabelConfig, text: str, control: str | None) -> _Place:
    """Return the node, or the control, that is gone."""
    gone = [place for place in _gone(services, project, config) if control in {None, place.control}]
    present = [_Place(tree.control, path, path) for tree in config.trees for path in tree.paths]
    if not _matches(text, gone) and any(control in {None, place.control} for place in _matches(text, present)):
        raise ConfigError(
            f'"{text}" is in the taxonomy of project {project}, so its labels count as they are.',
            hint="Only nodes that are gone are decided here. Correct labels in Label Studio, or in the manifest.",
        )
    return _find(text, gone, "node that is gone")


def _gone(services: Services, project: str, config: LabelConfig) -> Iterator[_Place]:
    """Yield what is gone: controls, nodes that the taxonomy had, and names of labels that it never had."""
    record = services.projects.get(project)
    now = _control_names(record)
    trees = {tree.control: tree for tree in config.trees}
    found: set[tuple[str, TaxonomyPath]] = {(name, ()) for name in record.gone if name not in trees}
    found |= {(now.get(name, name), path) for name, paths in record.gone.items() for path in paths}
    rows = services.journal.unknown_paths.labels(project)
    found |= {(row.control, path) for row in rows for path in prefixes(row.path)}
    found |= {decision.node for decision in record.label_decisions}
    for control, path in sorted(found):
        if not (path and control in trees and trees[control].node_of(path)):
            yield _Place(control, path, path)


def _control_names(record: ProjectRecord) -> dict[str, str]:
    """Return, for each control that a person renamed, the one in its place."""
    return {d.control: d.new_control for d in record.label_decisions if not d.old and d.new_control}


def _matches(text: str, places: Iterable[_Place]) -> list[_Place]:
    wanted = clean_name(text)
    if wanted.startswith("["):
        try:
            listed = tuple(json.loads(wanted))
        except (ValueError, TypeError):
            listed = ()
        if exact := [place for place in places if place.spelled == listed]:
            return exact
    return [place for place in places if wanted in place.texts]


def _find(text: str, places: Sequence[_Place], what: str) -> _Place:
    matches = {(place.control, place.path): place for place in _matches(text, places)}
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        each = "; ".join(f'{place.name} of "{place.control}"' for place in matches.values())
        raise ConfigError(
            f'"{text}" may be several nodes: {each}.', hint="Give --control, or write the path as a JSON list."
        )
    names = {place.name.casefold(): place.name for place in places}
    similar = process.extract(clean_name(text).casefold(), list(names), limit=_SIMILAR, score_cutoff=50)
    shown = [names[key] for key, _, _ in similar]
    if shown:
        hint = f"Similar: {'; '.join(shown)}."
    else:
        few = list(dict.fromkeys(names.values()))[: 2 * _SIMILAR]
        hint = f"There are: {'; '.join(few)}." if few else "There are none."
    raise NotFoundError(f'There is no {what} "{text}".', hint=hint)


def describe(decision: LabelDecision) -> str:
    """Return a decision in words."""
    old = format_path(decision.old) if decision.old else f'control "{decision.control}"'
    if decision.new is None:
        return f"{old}: the loss is accepted"
    return f"{old} → {format_path(decision.new) if decision.new else decision.new_control}"
