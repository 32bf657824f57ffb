"""The tree of choices of one control of a labelling config."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.names import clean_name
from taxonomist.taxonomy.paths import TaxonomyPath, common_prefix, format_path, prefixes

IntArray = NDArray[np.intp]
Kind = Literal["taxonomy", "choices"]


MAX_LEVELS = 64
"""More than any taxonomy of people has; deeper ones are mistakes, and each node keeps the names of all above it."""


_LOCK = Lock()  # of the results that trees keep

MOST_COMPARED = 1000
"""Characters of a path of which the nearest node is looked for."""

MOST_NEAREST = 1000
"""Paths of which a tree keeps the nearest node."""


def check_depth(control: str, path: TaxonomyPath) -> None:
    """Raise `ConfigError` for a path with more than `MAX_LEVELS` levels."""
    if len(path) > MAX_LEVELS:
        raise ConfigError(
            f'The taxonomy "{control}" has a path of {len(path):,} levels, which begins with '
            f'"{format_path(path[:3])[:100]}".',
            hint=f"At most {MAX_LEVELS} levels are supported. Is a choice nested in the one before it by mistake?",
        )


@dataclass(frozen=True)
class Tree:
    """One control and its nodes. Node `i` is `paths[i]`; models have one output per node in this order.

    Names are those that Label Studio writes into results: the alias of a choice if it has one, else its value. Each
    parent comes before its children. Raises ConfigError when the paths do not form a tree.

    `values` has the value of each choice with an alias, by path: annotations from before it had one hold the value.
    `renamed` are nodes that the tree has no longer, each with the node that a person named in its place, and `former`
    the names that the control had. `nests_choices`: it is a `<Choices>` with `allowNested`, which writes whole paths; a
    choice with others below it is chosen when all of these are, so that only leaves can be suggested.
    """

    control: str
    to_name: str
    kind: Kind
    paths: tuple[TaxonomyPath, ...]
    leafs_only: bool = False
    max_usages: int | None = None
    multiple: bool = True
    values: tuple[tuple[TaxonomyPath, str], ...] = ()
    renamed: tuple[tuple[TaxonomyPath, TaxonomyPath], ...] = ()
    former: tuple[str, ...] = ()
    nests_choices: bool = False

    def __post_init__(self) -> None:
        seen: set[TaxonomyPath] = {()}
        for path in self.paths:
            check_depth(self.control, path)
            if not path or path[:-1] not in seen:
                raise ConfigError(f'The node "{format_path(path)}" of "{self.control}" comes before its parent.')
            if path in seen:
                raise ConfigError(
                    f'The path "{format_path(path)}" is in "{self.control}" twice.',
                    hint="Give the choices of one parent different values (or aliases).",
                )
            seen.add(path)
        if not self.paths:
            raise ConfigError(f'The control "{self.control}" has no choices.', hint="Add <Choice> tags to it.")

    @classmethod
    def from_paths(cls, control: str, paths: Iterable[TaxonomyPath], *, to_name: str = "image") -> "Tree":
        """Return the smallest tree with these paths (inner nodes are added), for labels without a labelling config.

        Siblings are sorted, so the same set of paths gives the same tree. Raises ConfigError without paths.
        """
        nodes = {prefix for path in paths for prefix in prefixes(path)}
        return cls(control=control, to_name=to_name, kind="taxonomy", paths=tuple(sorted(nodes)))

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, path: object) -> bool:
        return path in self.index

    @cached_property
    def index(self) -> Mapping[TaxonomyPath, int]:
        """Maps each path to its node."""
        return {path: node for node, path in enumerate(self.paths)}

    @cached_property
    def parents(self) -> IntArray:
        """The parent of each node, shape (nodes,); -1 at level 1."""
        return _frozen([self.index[path[:-1]] if len(path) > 1 else -1 for path in self.paths])

    @cached_property
    def levels(self) -> IntArray:
        """The level of each node, shape (nodes,); 1 is the top."""
        return _frozen([len(path) for path in self.paths])

    @cached_property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Whether a node has no children, shape (nodes,)."""
        leaf = np.ones(len(self), dtype=np.bool_)
        leaf[self.parents[self.parents >= 0]] = False
        leaf.flags.writeable = False
        return leaf

    @cached_property
    def depth(self) -> int:
        """The deepest level."""
        return int(self.levels.max())

    @cached_property
    def _children(self) -> Mapping[int, IntArray]:
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(node)
        return {parent: _frozen(nodes) for parent, nodes in children.items()}

    @cached_property
    def groups(self) -> tuple[IntArray, ...]:
        """The groups of siblings, each with its own softmax; the nodes of level 1 come first."""
        return tuple(self._children.values())

    def children(self, node: int) -> IntArray:
        """Return the children of a node, empty for a leaf; `-1` gives the nodes of level 1."""
        return self._children.get(node, _frozen([]))

    def ancestors(self, node: int) -> tuple[int, ...]:
        """Return the nodes from level 1 down to the node, which is the last one."""
        return tuple(self.index[prefix] for prefix in prefixes(self.paths[node]))

    @cached_property
    def _by_value(self) -> Mapping[TaxonomyPath, TaxonomyPath]:
        """Maps a path whose last name is a choice's value to its node. A value that two siblings share names none."""
        found: dict[TaxonomyPath, TaxonomyPath] = {}
        shared: set[TaxonomyPath] = set()
        for path, value in self.values:
            key = (*path[:-1], value)
            shared |= {key} & found.keys()
            found[key] = path
        return {key: path for key, path in found.items() if key not in shared and key not in self.index}

    @cached_property
    def _by_spelling(self) -> Mapping[TaxonomyPath, TaxonomyPath]:
        """Maps a path whose last name is in its clean spelling to its node, where only one node has this spelling."""
        found: dict[TaxonomyPath, set[TaxonomyPath]] = {}
        for path, name in (*((path, path[-1]) for path in self.paths), *self.values):
            found.setdefault((*path[:-1], clean_name(name)), set()).add(path)
        return {key: min(nodes) for key, nodes in found.items() if len(nodes) == 1}

    def known_prefix(self, path: TaxonomyPath) -> TaxonomyPath:
        """Return the node of the longest prefix of the path, `()` when level 1 is unknown.

        Each name may be the alias of a choice or its value; the node that is returned has the names of the tree. A node
        that a person renamed is the one in its place, and nodes below it are those below that one.
        """
        return self._longest(self.current(path))

    def current(self, path: TaxonomyPath) -> TaxonomyPath:
        """Return the path after a person's renames. A path that the tree has is its own, whatever was renamed."""
        seen: set[TaxonomyPath] = set()
        while self.renamed and path not in seen and len(self._longest(path)) < len(path):
            seen.add(path)  # renames may go in a circle
            old = next((old for old in reversed([*prefixes(path)]) if old in self._renames), None)
            if old is None or len(self._longest(old)) == len(old):
                return path
            path = (*self._renames[old], *path[len(old) :])
        return path

    def node_of(self, path: TaxonomyPath) -> TaxonomyPath | None:
        """Return the node that the path names with aliases or values, None for an unknown path."""
        if path in self.index:
            return path
        path = self.current(path)
        known = self._longest(path)
        return known if known and len(known) == len(path) else None

    def _longest(self, path: TaxonomyPath) -> TaxonomyPath:
        known: TaxonomyPath = ()
        for name in path:
            step = (*known, name)
            if step not in self.index:
                step = self._by_value.get(step) or self._by_spelling.get((*known, clean_name(name)), ())
            if not step:
                break
            known = step
        return known

    @cached_property
    def _renames(self) -> Mapping[TaxonomyPath, TaxonomyPath]:
        return dict(self.renamed)

    def names(self, path: TaxonomyPath) -> set[str]:
        """Return the names of a node's choice: its alias and its value."""
        return {path[-1], *(value for node, value in self.values if node == path)}

    @cached_property
    def _spellings(self) -> list[str]:
        return [format_path(path).casefold() for path in self.paths]

    @cached_property
    def _nearest(self) -> dict[TaxonomyPath, TaxonomyPath | None]:
        """The paths that `nearest` looked up last."""
        return {}

    def nearest(self, path: TaxonomyPath) -> TaxonomyPath | None:
        """Return the node whose path has the most similar spelling, None when no spelling is similar.

        A path of more than `MOST_COMPARED` characters is like none. The last `MOST_NEAREST` results are kept, since a
        comparison with all nodes of a large tree takes milliseconds.
        """
        if sum(map(len, path)) > MOST_COMPARED:
            return None
        with _LOCK:
            if path in self._nearest:
                return self._nearest[path]
        nearest = self._find_nearest(path)
        with _LOCK:
            self._nearest[path] = nearest
            if len(self._nearest) > MOST_NEAREST:
                del self._nearest[next(iter(self._nearest))]
        return nearest

    def _find_nearest(self, path: TaxonomyPath) -> TaxonomyPath | None:
        """Return the most similar node, after a comparison with all.

        The parts after the common prefix must be similar too: after a long common prefix any two siblings would do.
        Where none is, a node that may have been moved: the only one with the same last name.
        """
        wanted = format_path(path).casefold()
        candidates = process.extract(wanted, self._spellings, scorer=fuzz.ratio, score_cutoff=70, limit=5)
        for _, _, node in candidates:
            candidate = self.paths[node]
            if candidate == path:
                return candidate
            shared = len(common_prefix((path, candidate)))
            wanted_end, candidate_end = (format_path(p[shared:]).casefold() for p in (path, candidate))
            if fuzz.ratio(wanted_end, candidate_end) >= 70:
                return candidate
        moved = [node for node in self.paths if node[-1].casefold() == path[-1].casefold()]
        return moved[0] if len(moved) == 1 else None

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the control, its paths in their order, values and `leafs_only`: 16 hexadecimal digits, stable."""
        values = [self.values] if self.values else []
        text = json.dumps([self.control, self.paths, self.leafs_only, *values], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the tree as JSON-ready values; `from_json` reads them back, without the values of aliased choices."""
        return {
            "control": self.control,
            "to_name": self.to_name,
            "kind": self.kind,
            "paths": [list(path) for path in self.paths],
            "leafs_only": self.leafs_only,
            "max_usages": self.max_usages,
            "multiple": self.multiple,
            **({"nests_choices": True} if self.nests_choices else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Tree":
        """Return the tree that `to_json` wrote. Raises ConfigError for data that is not a tree."""
        try:
            return cls(**{**data, "paths": tuple(tuple(path) for path in data["paths"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"This is not a stored tree: {error}.") from error


def _frozen(values: list[int]) -> IntArray:
    array = np.array(values, dtype=np.intp)
    array.flags.writeable = False
    return array
