import json
from typing import Any

import numpy as np
import pytest
from rapidfuzz import process

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.tree import MOST_COMPARED, MOST_NEAREST, Tree


def test_arrays_of_the_small_tree(small: Tree) -> None:
    assert small.parents.tolist() == [-1, 0, 1, 1, 0, -1, 5]
    assert small.levels.tolist() == [1, 2, 3, 3, 2, 1, 2]
    assert small.is_leaf.tolist() == [False, False, True, True, True, False, True]
    assert [group.tolist() for group in small.groups] == [[0, 5], [1, 4], [2, 3], [6]]
    assert small.children(1).tolist() == [2, 3]
    assert small.children(2).tolist() == []
    assert (small.depth, len(small), small.ancestors(3)) == (3, 7, (0, 1, 3))
    assert ("A", "B") in small
    assert ("B",) not in small
    with pytest.raises(ValueError, match="read-only"):
        small.parents[0] = 3


def test_every_node_is_in_one_group(config: LabelConfig) -> None:
    tree = config.trees[0]
    assert sorted(np.concatenate(tree.groups).tolist()) == list(range(len(tree)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("A", "WG-X"), ("A", "WC-X")),
        (("A", "wc-x"), ("A", "WC-X")),
        (("A", "Komplettanlage", "Wand"), ("A", "Komplettanlagen", "Wand")),
        (("A", "WC-X"), ("A", "WC-X")),
        (("A", "Something else"), None),
        (("A", "Komplettanlagen", "Boden"), None),  # a long shared beginning does not make siblings alike
    ],
)
def test_nearest(given: tuple[str, ...], expected: tuple[str, ...] | None) -> None:
    paths = (("A",), ("A", "WC-X"), ("A", "Komplettanlagen"), ("A", "Komplettanlagen", "Wand"))
    assert Tree("t", "image", "taxonomy", paths).nearest(given) == expected


def test_nearest_of_the_study(config: LabelConfig) -> None:
    given = ("Badezimmersysteme", "Geberit AquaClean", "WG-Komplettanlagen")
    assert config.trees[0].nearest(given) == ("Badezimmersysteme", "Geberit AquaClean", "WC-Komplettanlagen")


def test_known_prefix(small: Tree) -> None:
    assert small.known_prefix(("A", "B", "Z", "X")) == ("A", "B")
    assert small.known_prefix(("Z", "A")) == ()


def test_json_and_fingerprint(small: Tree) -> None:
    again = Tree.from_json(json.loads(json.dumps(small.to_json())))
    assert again == small
    assert again.fingerprint == small.fingerprint == "8c5d0be5a5ed1d5c"
    swapped = Tree(small.control, small.to_name, small.kind, (*small.paths[5:], *small.paths[:5]))
    assert swapped.fingerprint != small.fingerprint  # models have one output per node, in order
    for broken in ({}, {**small.to_json(), "colour": "red"}, {**small.to_json(), "paths": [["A", "B"]]}):
        with pytest.raises(ConfigError):
            Tree.from_json(broken)


def test_from_paths_adds_inner_nodes() -> None:
    tree = Tree.from_paths("media", [("B", "C"), ("A", "D", "E"), ("B", "C")])
    assert tree.paths == (("A",), ("A", "D"), ("A", "D", "E"), ("B",), ("B", "C"))
    with pytest.raises(ConfigError, match="no choices"):
        Tree.from_paths("media", [])


def test_a_path_names_its_node_by_aliases_or_values() -> None:
    paths = (("w",), ("w", "r"), ("w", "y"), ("Cold",))
    tree = Tree("t", "image", "taxonomy", paths, values=((("w",), "Warm"), (("w", "r"), "Red"), (("w", "y"), "Red")))
    assert tree.node_of(("Warm", "r")) == ("w", "r")
    assert tree.node_of(("Warm", "Red")) is None  # two siblings have this value
    assert tree.known_prefix(("Warm", "Red")) == ("w",)
    assert tree.names(("w",)) == {"w", "Warm"}
    assert tree.node_of(()) is None


def test_an_alias_wins_over_the_value_of_a_sibling() -> None:
    tree = Tree("t", "image", "taxonomy", (("x",), ("Red",)), values=((("x",), "Red"), (("Red",), "Blue")))
    assert tree.node_of(("Red",)) == ("Red",)


def test_a_changed_value_changes_the_fingerprint_and_none_leaves_it() -> None:
    plain = Tree("t", "image", "taxonomy", (("w",),))
    assert plain.fingerprint == "92c409996ece20c5"
    first, second = (Tree("t", "image", "taxonomy", (("w",),), values=((("w",), v),)) for v in ("Warm", "Hot"))
    assert len({plain.fingerprint, first.fingerprint, second.fingerprint}) == 3
    assert Tree.from_json(first.to_json()) == plain


def test_the_nearest_node_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    extract = process.extract

    def count(wanted: str, *arguments: Any, **options: Any) -> Any:
        compared.append(wanted)
        return extract(wanted, *arguments, **options)

    monkeypatch.setattr("taxonomist.taxonomy.tree.process.extract", count)
    tree = Tree("t", "image", "taxonomy", (("Chair",), ("Table",)))
    for _ in range(3):
        assert tree.nearest(("Chairs",)) == ("Chair",)
        assert tree.nearest(("Unlike",)) is None
    assert compared == ["chairs", "unlike"]
    assert tree.nearest(("Chair" * MOST_COMPARED,)) is None
    assert len(compared) == 2
    for number in range(MOST_NEAREST):
        tree.nearest((f"Lamp {number}",))
    assert len(tree._nearest) == MOST_NEAREST


def test_a_name_in_another_unicode_spelling_or_with_other_blanks_is_the_node() -> None:
    tree = Tree.from_paths("t", [("Wärme", "Red brick"), ("Kälte", "Red"), ("Kälte", "Re\u0301"), ("Kälte", "R\u00e9")])
    assert tree.node_of(("Wa\u0308rme", "Red\u00a0 brick ")) == ("Wärme", "Red brick")
    assert tree.known_prefix(("Wa\u0308rme", "red brick")) == ("Wärme",)
    assert tree.node_of(("Ka\u0308lte", "Re\u0301")) == ("Kälte", "Re\u0301")
    assert tree.node_of(("Kälte", " R\u00e9")) is None  # two nodes have this spelling
