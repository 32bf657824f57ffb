"""Matches the nodes that a change of the labelling config took away to the nodes that it brought.

A match is certain where one node went and one came in the same change, they share what no other node has, and no other
node is matched to the new one. That a name means one thing is taken for granted: a node that went, and another one of
its name that came elsewhere, cannot be told from a move. All other matches are proposals to a person. A node that was
there before is never a certain match, since it has labels of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from rapidfuzz import fuzz

from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.label_config.former_nodes import spellings_of
from taxonomist.taxonomy.names import clean_name
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

MOST_PAIRS = 1_000_000
"""Pairs of names that are compared for similar spelling after one change; further ones have no proposal."""

SIMILAR = 0.6
"""The similarity of names, or of the names below, from which a new node is proposed; 1 is equal."""

MERGED = 0.8
"""The similarity of names from which a sibling that was there before is proposed."""

_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_LETTERS = 3  # a shorter name, or a number, says too little of a node in another place
_REST = frozenset(
    word
    for line in (
        "other others misc miscellaneous rest various general unknown unclear undefined none",
        "andere anderes sonstige sonstiges diverse diverses unbekannt keine autre autres divers inconnu",
        "otro otros varios altro altri vari overig overige inne",
    )
    for word in line.split()
)
_MOST_ROUNDS = 10
_Key = TypeVar("_Key", bound=Hashable)


class Reason(StrEnum):
    """Why two nodes match."""

    SPELLING = "the same name, written differently"
    MOVED = "the same name in another place, and no other node has it"
    CHILDREN = "the same nodes below it, and no other node has them"
    SAME_CHOICE = "another name of the same choice"
    CONTROL = "a control with the same nodes"
    ONLY_ONE = "the only node that went and the only one that came there"
    ELSEWHERE = "the same name below another node, of which it is not known what it was before"
    SIMILAR = "a similar name, or similar nodes below it"
    MERGED = "a node that was there before, with a similar name"

    @property
    def certain(self) -> bool:
        """Whether no person has to be asked."""
        return self in {Reason.SPELLING, Reason.MOVED, Reason.CHILDREN, Reason.SAME_CHOICE, Reason.CONTROL}


@dataclass(frozen=True)
class NodeMatch:
    """A node that a taxonomy has no longer, `old`, and the node that it is matched to; nodes below it go with it.

    Both are `()` where `control` itself is gone: it is matched to `new_control`.
    """

    control: str
    old: TaxonomyPath
    new: TaxonomyPath
    reason: Reason
    new_control: str | None = None

    @property
    def certain(self) -> bool:
        """Whether no person has to be asked."""
        return self.reason.certain


def match_configs(before: LabelConfig, now: LabelConfig) -> tuple[NodeMatch, ...]:
    """Return the matches of all controls and nodes that `before` has and `now` has not, as far as there are any."""
    trees = {tree.control: tree for tree in now.trees}
    gone = [tree for tree in before.trees if tree.control not in trees]
    came = [tree for tree in now.trees if tree.control not in {tree.control for tree in before.trees}]
    old, new = (Counter((tree.kind, frozenset(tree.paths)) for tree in config.trees) for config in (before, now))
    matches = [
        NodeMatch(one.control, (), (), Reason.CONTROL, other.control)
        for one in gone
        for other in came
        if (key := (one.kind, frozenset(one.paths))) == (other.kind, frozenset(other.paths))
        and len(one) > 1
        and old[key] == new[key] == 1
    ]
    for tree in before.trees:
        if tree.control in trees:
            matches += match_trees(tree, trees[tree.control])
    return tuple(matches)


def match_trees(old: Tree, new: Tree) -> tuple[NodeMatch, ...]:
    """Return the matches of the nodes that `old` has and `new` has not, parents first.

    A node that goes along with its parent has no match of its own. Nor has one that stands below a node without a
    certain match, unless its own is certain. Certain matches are one to one; several nodes may be proposed to be merged
    into one that was there before.
    """
    kept = {path: node for path in old.paths if (node := new.node_of(path)) is not None}
    spelled = {text: path for text, path in spellings_of(old).items() if new.node_of(text) is None}
    return _Matching(old, new, kept, spelled).matches() if len(kept) < len(old) or spelled else ()


def folded(name: str) -> str:
    """Return what two spellings of a name share: letters in one case and form, one blank between words.

    >>> folded("Bar-Stool") == folded("bar  stool")
    True
    >>> folded("C++") == folded("C")
    False
    """
    return _BETWEEN_WORDS.sub(" ", clean_name(unicodedata.normalize("NFKC", name)).casefold())


class _Side:
    """One of the two trees: names, children and shapes of its nodes. Equal subtrees have the same shape."""

    def __init__(self, tree: Tree, shapes: dict[frozenset[tuple[str, int]], int]) -> None:
        values = dict(tree.values)
        self.tree = tree
        self.names = {path: {folded(path[-1]), folded(values.get(path, path[-1]))} for path in tree.paths}
        self.children: defaultdict[TaxonomyPath, list[TaxonomyPath]] = defaultdict(list)
        for path in tree.paths:
            self.children[path[:-1]].append(path)
        self.shape: dict[TaxonomyPath, int] = {}
        for path in reversed(tree.paths):  # children first
            below = frozenset((folded(child[-1]), self.shape[child]) for child in self.below(path))
            self.shape[path] = shapes.setdefault(below, len(shapes))
        named = [(name, path) for path, names in self.names.items() for name in names]
        self.with_name = _grouped(iter(named))
        self.siblings_with_name = _grouped(((path[:-1], name), path) for name, path in named)
        self.with_shape = _grouped((shape, path) for path, shape in self.shape.items() if len(self.below(path)) > 1)

    def below(self, path: TaxonomyPath) -> Sequence[TaxonomyPath]:
        """Return the children of a node."""
        return self.children.get(path, ())

    def names_below(self, path: TaxonomyPath) -> set[str]:
        """Return the names of the children of a node."""
        return {name for child in self.below(path) for name in self.names[child]}


class _Matching:
    """`kept` are the nodes that both trees have, `spelled` the other spellings of old nodes that the new tree lacks."""

    def __init__(
        self,
        old: Tree,
        new: Tree,
        kept: Mapping[TaxonomyPath, TaxonomyPath],
        spelled: Mapping[TaxonomyPath, TaxonomyPath],
    ) -> None:
        shapes: dict[frozenset[tuple[str, int]], int] = {}
        self.old, self.new = _Side(old, shapes), _Side(new, shapes)
        self.kept, self.spelled = kept, spelled
        self.gone = [path for path in old.paths if path not in kept]
        self.came = set(new.paths) - set(kept.values())

    def matches(self) -> tuple[NodeMatch, ...]:
        certain, places = self._certain()
        claimed = set(places.values())
        control = self.old.tree.control
        found = [NodeMatch(control, path, node, reason) for path, (node, reason) in certain.items()]
        found += [
            NodeMatch(control, spelled, places[path], Reason.SAME_CHOICE)
            for spelled, path in self.spelled.items()
            if path in places
        ]
        found += [
            NodeMatch(control, path, node, reason) for path, node, reason in self._proposed(places, self.came - claimed)
        ]
        return tuple(found)

    def _certain(self) -> tuple[dict[TaxonomyPath, tuple[TaxonomyPath, Reason]], dict[TaxonomyPath, TaxonomyPath]]:
        """Return the certain matches by old node, and the place of each old node that has one."""
        refused: set[TaxonomyPath] = set()
        for _ in range(_MOST_ROUNDS):
            certain, places = self._round(refused)
            claims = Counter(node for path, node in places.items() if path not in self.kept)
            several = {node for node, count in claims.items() if count > 1}
            if not several:
                return certain, places
            refused |= several
        return {}, dict(self.kept)

    def _round(
        self, refused: set[TaxonomyPath]
    ) -> tuple[dict[TaxonomyPath, tuple[TaxonomyPath, Reason]], dict[TaxonomyPath, TaxonomyPath]]:
        certain: dict[TaxonomyPath, tuple[TaxonomyPath, Reason]] = {}
        places = dict(self.kept)
        for path in self.gone:
            parent = places.get(path[:-1]) if path[:-1] else ()
            if parent and path[:-1] not in self.kept:
                node = self.new.tree.node_of((*parent, path[-1]))
                if node is not None:  # it goes along with its parent
                    places[path] = node
                    continue
            candidates = {*self._respelled(path, parent), *self._with_same_children(path, parent)}
            candidates |= {
                (node, Reason.MOVED)
                for node in self._elsewhere(path)
                if parent is not None or not self._is_in_new(node)
            }
            if len({node for node, _ in candidates}) == 1:
                node, reason = min(candidates, key=lambda candidate: list(Reason).index(candidate[1]))
                if node not in refused:
                    places[path], certain[path] = node, (node, reason)
        return certain, places

    def _respelled(self, path: TaxonomyPath, parent: TaxonomyPath | None) -> Iterator[tuple[TaxonomyPath, Reason]]:
        """Yield the new sibling with the same name, if it is the only one and no other old sibling has this name."""
        if parent is None:
            return
        for name in self.old.names[path]:
            here = self.new.siblings_with_name.get((parent, name), [])
            rivals = self.old.siblings_with_name[path[:-1], name]
            if len(here) == len(rivals) == 1 and here[0] in self.came:
                yield here[0], Reason.SPELLING

    def _with_same_children(
        self, path: TaxonomyPath, parent: TaxonomyPath | None
    ) -> Iterator[tuple[TaxonomyPath, Reason]]:
        """Yield the new sibling with the same nodes below it, if these are below no other node of either tree."""
        shape = self.old.shape[path]
        here = self.new.with_shape.get(shape, [])
        if parent is None or len(here) != 1 or len(self.old.with_shape.get(shape, [])) != 1:
            return
        if here[0] in self.came and here[0][:-1] == parent:
            yield here[0], Reason.CHILDREN

    def _is_in_new(self, node: TaxonomyPath) -> bool:
        """Return whether the parent of a node is new, too."""
        return bool(node[:-1]) and node[:-1] in self.came

    def _elsewhere(self, path: TaxonomyPath) -> Iterator[TaxonomyPath]:
        """Yield the new node with the same name, wherever it is, if no other node of either tree has this name.

        A name that means the rest of its parent, or that is hardly a word, says nothing. Both are leaves, or they share
        a node below them.
        """
        for name in self.old.names[path]:
            there = self.new.with_name.get(name, [])
            if len(there) != 1 or len(self.old.with_name[name]) != 1 or there[0] not in self.came:
                continue
            if name in _REST or sum(map(str.isalpha, name)) < _LETTERS:
                continue
            below, below_there = self.old.names_below(path), self.new.names_below(there[0])
            if below & below_there or not (below or below_there):
                yield there[0]

    def _proposed(
        self, places: Mapping[TaxonomyPath, TaxonomyPath], left: set[TaxonomyPath]
    ) -> Iterator[tuple[TaxonomyPath, TaxonomyPath, Reason]]:
        """Yield proposals for old nodes without a certain place: new nodes that are left, and, where the parent has a
        place, siblings that were there before."""
        open_: defaultdict[TaxonomyPath, list[TaxonomyPath]] = defaultdict(list)
        for path in self.gone:
            if path in places:
                continue
            if not path[:-1] or path[:-1] in places:
                open_[path[:-1]].append(path)
            else:
                yield from ((path, node, Reason.ELSEWHERE) for node in self._elsewhere(path) if node in left)
        pairs = 0
        for parent, gone in open_.items():
            siblings = self.new.below(places.get(parent, ()))
            came = [node for node in siblings if node in left]
            if len(gone) == len(came) == 1:
                yield gone[0], came[0], Reason.ONLY_ONE
                continue
            pairs += len(gone) * len(siblings)
            if pairs <= MOST_PAIRS:
                yield from self._similar(gone, came, [node for node in siblings if node not in self.came])

    def _similar(
        self, gone: Sequence[TaxonomyPath], came: Sequence[TaxonomyPath], stayed: Sequence[TaxonomyPath]
    ) -> Iterator[tuple[TaxonomyPath, TaxonomyPath, Reason]]:
        """Yield the most similar pairs first, each node once; for the rest, the most similar one that stayed."""
        below = {path: self.old.names_below(path) for path in gone}
        below_there = {node: self.new.names_below(node) for node in came}
        scored = [
            (max(self._alike(path, node), _shared(below[path], below_there[node])), path, node)
            for path in gone
            for node in came
        ]
        matched: set[TaxonomyPath] = set()
        taken: set[TaxonomyPath] = set()
        for score, path, node in sorted(scored, key=lambda pair: (-pair[0], pair[1:])):
            if score >= SIMILAR and path not in matched and node not in taken:
                matched.add(path)
                taken.add(node)
                yield path, node, Reason.SIMILAR
        for path in gone:
            if path not in matched and stayed:
                score, node = max((self._alike(path, node), node) for node in stayed)
                if score >= MERGED:
                    yield path, node, Reason.MERGED

    def _alike(self, path: TaxonomyPath, node: TaxonomyPath) -> float:
        return max(fuzz.ratio(one, other) for one in self.old.names[path] for other in self.new.names[node]) / 100


def _shared(one: set[str], other: set[str]) -> float:
    """Return the share of the names that both have, 0 to 1."""
    return len(one & other) / len(one | other) if one and other else 0.0


def _grouped(pairs: Iterator[tuple[_Key, TaxonomyPath]]) -> dict[_Key, list[TaxonomyPath]]:
    groups: dict[_Key, list[TaxonomyPath]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return groups
