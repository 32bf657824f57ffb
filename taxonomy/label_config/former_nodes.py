"""Nodes that a taxonomy has no longer, and what a person decided about the labels that name them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from taxonomist.taxonomy.label_config.cache import ConfigCache
from taxonomist.taxonomy.label_config.parsing import PARSED, LabelConfig, key_of, parse_label_config
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

_WITH_RENAMES = ConfigCache[LabelConfig](entries=64, total=100_000)  # nodes


@dataclass(frozen=True)
class LabelDecision:
    """A person's decision on the labels that name a node that is gone, `old`, or a node below it.

    They count as `new`, with their names below it, or their loss is accepted (`new` is None). With an `old` of `()`,
    `control` itself is gone: what it held is that of `new_control`.
    """

    control: str
    old: TaxonomyPath
    new: TaxonomyPath | None
    decided_at: datetime
    new_control: str | None = None

    @property
    def node(self) -> tuple[str, TaxonomyPath]:
        """The control and the path of the node that it is about."""
        return self.control, self.old


def with_those_above(control: str, path: TaxonomyPath) -> Iterator[tuple[str, TaxonomyPath]]:
    """Yield the node and those above it, the deepest first; last the control, with `()`.

    A decision on one of these is about a label that names the node. To look them up takes no time in proportion to the
    number of decisions.
    """
    for length in range(len(path), -1, -1):
        yield control, path[:length]


def read_label_config(
    xml: str, decisions: tuple[LabelDecision, ...] = (), gone_controls: frozenset[str] = frozenset()
) -> LabelConfig:
    """Return a labelling config whose trees know the nodes and controls that a person renamed. Cached.

    `gone_controls` are those that the config had once. Raises what `parse_label_config` raises.
    """
    config = parse_label_config(xml)
    if not decisions and gone_controls <= {tree.control for tree in config.trees}:
        return config

    def read() -> tuple[LabelConfig, int]:
        return _with_renames(config, decisions, gone_controls), config.size

    return _WITH_RENAMES.get((key_of(xml), decisions, gone_controls), read)


def forget_parsed_configs() -> None:
    """Empty the caches of this module and of `parsing`."""
    _WITH_RENAMES.clear()
    PARSED.clear()


def _with_renames(
    config: LabelConfig, decisions: Sequence[LabelDecision], gone_controls: frozenset[str]
) -> LabelConfig:
    controls = {tree.control for tree in config.trees}
    renamed = _renamed_controls(decisions, controls)
    trees = tuple(
        replace(tree, renamed=moved, former=names) if moved or names else tree
        for tree in config.trees
        for moved in [tuple(_renames(tree.control, renamed, decisions))]
        for names in [tuple(name for name, now in renamed.items() if now == tree.control)]
    )
    former: dict[str, str | None] = {name: renamed.get(name) for name in {*gone_controls, *renamed} - controls}
    return replace(config, trees=trees, former_controls=former) if former or trees != config.trees else config


def _renamed_controls(decisions: Iterable[LabelDecision], controls: Collection[str]) -> dict[str, str]:
    """Return the control that is there for each one that was renamed, also more than once."""
    moved = {decision.control: decision.new_control for decision in decisions if not decision.old}
    found: dict[str, str] = {}
    for name in moved:
        now, seen = moved[name], {name}
        while now is not None and now not in controls and now not in seen:
            seen.add(now)
            now = moved.get(now)
        if now is not None and now in controls:
            found[name] = now
    return found


def _renames(
    control: str, renamed: Mapping[str, str], decisions: Sequence[LabelDecision]
) -> Iterator[tuple[TaxonomyPath, TaxonomyPath]]:
    for decision in decisions:
        if decision.old and decision.new and control in {decision.control, renamed.get(decision.control)}:
            yield decision.old, decision.new


def gone_nodes(
    before: LabelConfig, now: LabelConfig, gone: Mapping[str, Collection[TaxonomyPath]]
) -> dict[str, tuple[TaxonomyPath, ...]]:
    """Return, by control, the paths that `before` has and `now` has not, and those of `gone` that did not come back.

    The paths of a choice with an alias are in both spellings.
    """
    known = {control: set(paths) for control, paths in gone.items()}
    for tree in before.trees:
        known.setdefault(tree.control, set()).update(tree.paths, spellings_of(tree))
    trees = {tree.control: tree for tree in now.trees}
    left = {
        control: {path for path in paths if control not in trees or trees[control].node_of(path) is None}
        for control, paths in known.items()
    }
    return {control: tuple(sorted(paths)) for control, paths in left.items() if paths}


def spellings_of(tree: Tree) -> dict[TaxonomyPath, TaxonomyPath]:
    """Return the nodes with an alias, by their paths with values: of the last name only, and of all names."""
    values = dict(tree.values)
    found: dict[TaxonomyPath, TaxonomyPath] = {}
    for path in tree.paths:
        whole = tuple(values.get(path[: level + 1], name) for level, name in enumerate(path))
        for spelled in {whole, (*path[:-1], whole[-1])} - {path}:
            found.setdefault(spelled, path)
    return found
