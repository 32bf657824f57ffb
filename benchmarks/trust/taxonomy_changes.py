"""How often a certain match of a changed taxonomy is wrong, over random changes whose truth is known.

python -m benchmarks.trust.taxonomy_changes --manifest furniture/manifest.csv --changes 1500 \\
    --output benchmarks/results/2026-11-28-taxo.md

A change is one to four edits of the taxonomy of the manifest: a person writes a name differently, renames a leaf or a
group, moves a node, merges a leaf into a sibling, or removes it; with `homonym`, a leaf is removed and another one of
the same name, which means something else, comes elsewhere. Other nodes are added, some of them with common names.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import Counter, defaultdict
from pathlib import Path

from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_changes import match_trees

EDITS = ("respell", "rename leaf", "rename group", "move", "merge", "remove", "homonym")
COMMON = ("Other", "Small", "Large", "Set", "Left", "2 m", "Misc")
MOST_EDITS = 4
Places = dict[TaxonomyPath, TaxonomyPath | None]


class _Change:
    """A taxonomy under edit: where each old node is now, None for one that is gone for good."""

    def __init__(self, tree: Tree, rng: random.Random) -> None:
        self.rng, self.number = rng, 0
        self.places: Places = {path: path for path in tree.paths}
        self.added: set[TaxonomyPath] = set()
        self.edited: dict[TaxonomyPath, str] = {}

    @property
    def present(self) -> set[TaxonomyPath]:
        return {path for path in self.places.values() if path} | self.added

    def leaves(self) -> list[TaxonomyPath]:
        inner = {path[:-1] for path in self.present}
        return sorted(path for path in self.places if self.places[path] == path and path not in inner)

    def groups(self) -> list[TaxonomyPath]:
        inner = {path[:-1] for path in self.present} - {()}
        return sorted(path for path in self.places if self.places[path] == path and path in inner)

    def relocate(self, path: TaxonomyPath, target: TaxonomyPath | None, edit: str) -> None:
        """Move a node with all below it; merged nodes and those that are gone have no nodes below."""
        if target in self.present:
            return
        for old, place in self.places.items():
            if place and place[: len(path)] == path:
                self.places[old] = (*target, *place[len(path) :]) if target else None
                self.edited[old] = edit

    def edit(self, kind: str) -> None:
        rng, leaves, groups = self.rng, self.leaves(), self.groups()
        path = rng.choice(groups if kind == "rename group" and groups else leaves)
        self.number += 1
        if kind == "respell":
            name = rng.choice([path[-1].upper(), path[-1].replace(" ", "-"), path[-1].lower(), f" {path[-1]}"])
            self.relocate(path, (*path[:-1], name), kind)
        elif kind.startswith("rename"):
            self.relocate(path, (*path[:-1], f"{rng.choice(['New', 'Modern', 'Plain'])} thing {self.number}"), kind)
        elif kind == "move":
            path = rng.choice([*leaves, *groups])
            parents = [parent for parent in [(), *groups] if parent[: len(path)] != path and parent != path[:-1]]
            if parents:
                self.relocate(path, (*rng.choice(parents), path[-1]), kind)
        elif kind == "merge":
            if siblings := [leaf for leaf in leaves if leaf[:-1] == path[:-1] and leaf != path]:
                self.places[path], self.edited[path] = rng.choice(siblings), kind
        else:
            self.relocate(path, None, kind)
            if kind == "homonym" and (parents := [group for group in groups if group != path[:-1]]):
                self.added |= {(*rng.choice(parents), path[-1])} - self.present
        if rng.random() < 0.5:
            name = rng.choice(COMMON) if rng.random() < 0.5 else f"Something {self.number}"
            self.added |= {(*rng.choice([(), *groups]), name)} - self.present


def measure(tree: Tree, changes: int, seed: int) -> dict[str, Counter[str]]:
    """Return by edit how many nodes it took away, and how many of them have which outcome."""
    rng = random.Random(seed)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _ in range(changes):
        change = _Change(tree, rng)
        for _ in range(rng.randint(1, MOST_EDITS)):
            change.edit(rng.choice(EDITS))
        new = Tree.from_paths(tree.control, change.present)
        matches = match_trees(tree, new)
        for match in matches:
            truth = change.places.get(match.old)
            kind = "certain" if match.certain else "proposed"
            counts[change.edited.get(match.old, "nothing")][
                f"{kind}, {'right' if truth == match.new else 'wrong'}"
            ] += 1
        matched = {match.old for match in matches}
        for path in tree.paths:
            if new.node_of(path) is None and matched.isdisjoint(prefixes(path)):
                counts[change.edited.get(path, "nothing")]["no match"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--changes", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=2811)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [[row[level] for level in ("level1", "level2", "level3") if row.get(level)] for row in rows]
    tree = Tree.from_paths("kind", {tuple(path) for path in names})
    counts = measure(tree, arguments.changes, arguments.seed)
    outcomes = ("certain, right", "certain, wrong", "proposed, right", "proposed, wrong", "no match")
    lines = [
        "# Matches of a changed taxonomy",
        "",
        f"{arguments.changes:,} random changes of a taxonomy of {len(tree)} nodes, one to {MOST_EDITS} edits each, "
        f"seed {arguments.seed}. Nodes that are gone, by the edit that took them away; nodes that go along with their "
        "parent are not counted. *homonym*: a node is removed, and another one of the same name, which means something "
        "else, comes elsewhere in the same change. Nothing in two labelling configs tells that from a move.",
        "",
        f"| edit | {' | '.join(outcomes)} |",
        f"| --- |{' --- |' * len(outcomes)}",
        *(f"| {edit} | {' | '.join(f'{counts[edit][name]:,}' for name in outcomes)} |" for edit in EDITS),
        "",
        "```sh",
        f"python -m benchmarks.trust.taxonomy_changes --manifest furniture/manifest.csv --changes {arguments.changes} "
        "--output benchmarks/results/2026-11-28-taxo.md",
        "```",
    ]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
