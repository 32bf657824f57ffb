"""The split of labelled images into those that test a model, train it, or stop its training.

Images of one group (one product, one service report), near-duplicates, and images with the same bytes are one unit,
which is never divided: a model that has seen a product is not tested on another view of it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["test", "train"]
Node = tuple[str, ...]
Unit = tuple["Item", ...]


@dataclass(frozen=True)
class Item:
    """An image as the split needs it.

    `stratum` is its level-1 label, `nodes` has the nodes that its labels name, each with its control in front. Items of
    one `near` are near-duplicates. `trained` says that a version has learned from the image or from its product, `bulk`
    that it was labelled together with many others, in one action.
    """

    id: str
    group: str | None
    file_hash: str | None
    stratum: str
    nodes: frozenset[Node] = frozenset()
    near: str | None = None
    trained: bool = False
    bulk: bool = False


def assign_test(items: Sequence[Item], fixed: Mapping[str, Part], share: float = 0.2, seed: int = 0) -> dict[str, Part]:
    """Return the part of every item, by id.

    The ids in `fixed` keep their part, and new images of their unit follow them; a unit with ids of both parts trains.
    A new unit that a version has learned from trains, too. A test unit whose product turns out to be learned stays:
    the comparison of two versions leaves it out. The other units are drawn so that about `share` of all images, and of
    each stratum, is in the test part. Images of `bulk` do not count there: a unit of these alone is not drawn, and the
    caller leaves out those that are in the unit of another, which is tested.

    The last unit of a node is not tested at the levels where most nodes have two or more units, nor the last unit of a
    stratum: the node could not be learned. A unit that became the last one of such a node goes back to training. Below,
    a tested image is scored down to the deepest node that training knows, see `heads.data.targets.scored`. The draw
    depends on `seed` and ids, not on the order of `items`.
    """
    units = _units(items)
    draw = _Draw(units, share)
    free = []
    for unit in sorted(units, key=lambda unit: _order(unit, seed)):
        known = {fixed[item.id] for item in unit if item.id in fixed}
        if "train" in known or (not known and _trained(unit)):
            continue
        if known:
            draw.test(unit)
        else:
            free.append(unit)
    draw.release()
    draw.choose(free)
    return draw.parts()


def draw_again(items: Sequence[Item], fixed: Mapping[str, Part], share: float = 0.2, seed: int = 0) -> dict[str, Part]:
    """Return new parts for all items: test units come first from those that no version has learned from."""
    units = _units(items)
    draw = _Draw(units, share)
    learned: dict[bool, list[Unit]] = {False: [], True: []}
    for unit in sorted(units, key=lambda unit: _order(unit, seed)):
        learned[_trained(unit) or any(fixed.get(item.id) == "train" for item in unit)].append(unit)
    draw.choose(learned[False])
    draw.choose(learned[True])
    return draw.parts()


def lost_test_share(items: Sequence[Item], fixed: Mapping[str, Part]) -> float:
    """Return the share of the test images, 0 to 1, that are of one unit with an image of the training part."""
    tested = lost = 0
    for unit in _units(items):
        parts = [fixed[item.id] for item in unit if item.id in fixed]
        tested += parts.count("test")
        lost += parts.count("test") if "train" in parts else 0
    return lost / tested if tested else 0.0


def split_validation(items: Sequence[Item], share: float = 0.2, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return indices into `items` for training and for validation, by unit and stratified as in `assign_test`."""
    units = _units(items)
    draw = _Draw(units, share)
    draw.choose(sorted(units, key=lambda unit: _order(unit, seed)))
    parts = draw.parts()
    training = [index for index, item in enumerate(items) if parts[item.id] == "train"]
    validation = [index for index, item in enumerate(items) if parts[item.id] == "test"]
    return training, validation


class _Draw:
    """Moves units into the test part, as long as each node that must be learned keeps a unit outside it."""

    def __init__(self, units: Sequence[Unit], share: float) -> None:
        self._units = units
        self._tested: dict[str, Unit] = {}  # by the id of its first item
        self._nodes = dict(zip((unit[0].id for unit in units), _nodes_to_learn(units), strict=True))
        self._training_units = Counter(node for nodes in self._nodes.values() for node in nodes)
        self._lacking: dict[str, float] = defaultdict(float)  # images that each stratum's test part still lacks
        for unit in units:
            self._lacking[_stratum(unit)] += share * _testable(unit)

    def test(self, unit: Unit) -> None:
        """Put a unit into the test part."""
        self._tested[unit[0].id] = unit
        self._count(unit, -1)

    def release(self) -> None:
        """Take units out of the test part that are the last ones of a node."""
        for unit in list(self._tested.values()):
            if any(self._training_units[node] == 0 for node in self._nodes[unit[0].id]):
                del self._tested[unit[0].id]
                self._count(unit, 1)

    def choose(self, units: Iterable[Unit]) -> None:
        """Put units into the test part, each time of the stratum that lacks most, until the share is reached.

        Within a stratum they are taken in the order given.
        """
        offered: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            if _testable(unit):
                offered[_stratum(unit)].append(unit)
        while offered:
            stratum = max(offered, key=lambda name: (self._lacking[name], name))
            unit = offered[stratum].pop(0)
            if not offered[stratum]:
                del offered[stratum]
            # Chosen when that brings the number of test images nearer to the wanted one.
            is_near = _testable(unit) < 2 * sum(self._lacking.values())
            if is_near and all(self._training_units[node] > 1 for node in self._nodes[unit[0].id]):
                self.test(unit)

    def parts(self) -> dict[str, Part]:
        """Return the part of every item, by id."""
        return {item.id: "test" if unit[0].id in self._tested else "train" for unit in self._units for item in unit}

    def _count(self, unit: Unit, sign: int) -> None:
        self._lacking[_stratum(unit)] += sign * _testable(unit)
        for node in self._nodes[unit[0].id]:
            self._training_units[node] += sign


def _nodes_to_learn(units: Sequence[Unit]) -> list[frozenset[Node]]:
    """Return, for each unit, its nodes of the levels where most nodes have two or more units, and its stratum."""
    nodes = [frozenset(node for item in unit for node in item.nodes) for unit in units]
    count = Counter(node for unit_nodes in nodes for node in unit_nodes)
    levels: dict[tuple[str, int], list[int]] = defaultdict(list)  # by control and level, the units of each node
    for node, number in count.items():
        levels[node[0], len(node)].append(number)
    learned = {level for level, numbers in levels.items() if 2 * sum(n > 1 for n in numbers) > len(numbers)}
    return [
        frozenset(node for node in unit_nodes if (node[0], len(node)) in learned) | {("", _stratum(unit))}
        for unit, unit_nodes in zip(units, nodes, strict=True)
    ]


def _units(items: Sequence[Item]) -> list[Unit]:
    """Return the items joined by a shared group, near-duplicate or file hash (union-find), each unit and the list in
    order of ids."""
    root: dict[str, str] = {}

    def find(key: str) -> str:
        while root.setdefault(key, key) != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for item in items:
        for name, value in (("group", item.group), ("near", item.near), ("hash", item.file_hash)):
            if value:
                root[find(f"{name}:{value}")] = find(f"id:{item.id}")
    members: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.id):
        members[find(f"id:{item.id}")].append(item)
    return [tuple(unit) for unit in members.values()]


def _trained(unit: Unit) -> bool:
    return any(item.trained for item in unit)


def _testable(unit: Unit) -> int:
    """Return how many images of a unit may test a model."""
    return sum(not item.bulk for item in unit)


def _stratum(unit: Sequence[Item]) -> str:
    """Return the most frequent stratum of a unit."""
    if len(unit) == 1:
        return unit[0].stratum
    counts = Counter(item.stratum for item in unit)
    return max(counts, key=lambda name: (counts[name], name))


def _order(unit: Sequence[Item], seed: int) -> bytes:
    """Return a key that sorts units in an order drawn from the seed."""
    return hashlib.sha256(f"{seed}:{unit[0].id}".encode()).digest()
