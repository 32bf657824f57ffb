"""The split of labelled images into those that test a model, train it, or stop its training.

Images of one group (one product, one service report) or with the same bytes are one unit, which is never divided: a
model that has seen a product is not tested on another view of it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["test", "train"]


@dataclass(frozen=True)
class Item:
    """An image as the split needs it; `stratum` is its level-1 label."""

    id: str
    group: str | None
    file_hash: str | None
    stratum: str


def assign_test(items: Sequence[Item], fixed: Mapping[str, Part], share: float = 0.2, seed: int = 0) -> dict[str, Part]:
    """Return the part of every item, by id.

    The ids in `fixed` keep their part, and new images of their unit follow them; new images of a unit with
    both parts go to the test part, since training must not see them. The other units are drawn so that about `share` of
    all images, and of each stratum, is in the test part. At least one unit of every stratum stays for training. The
    draw depends on `seed` and ids, not on the order of `items`.
    """
    units = _units(items)
    parts: dict[str, Part] = {}
    free: list[tuple[Item, ...]] = []
    for unit in units:
        known = {fixed[item.id] for item in unit if item.id in fixed}
        if known:
            follows: Part = "test" if "test" in known else "train"
            parts.update({item.id: fixed.get(item.id, follows) for item in unit})
        else:
            free.append(unit)
    draw = _Draw(units, parts, share)
    for unit in sorted(free, key=lambda unit: _order(unit, seed)):
        draw.offer(unit)
    parts.update({item.id: "train" for unit in free for item in unit})
    parts.update({item.id: "test" for unit in draw.chosen() for item in unit})
    return parts


def split_validation(items: Sequence[Item], share: float = 0.2, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return indices into `items` for training and for validation, by unit and stratified as in `assign_test`."""
    parts = assign_test(items, {}, share, seed)
    training = [index for index, item in enumerate(items) if parts[item.id] == "train"]
    validation = [index for index, item in enumerate(items) if parts[item.id] == "test"]
    return training, validation


class _Draw:
    """Selects units from the stratum that lacks most test images, until the share of all images is reached."""

    def __init__(self, units: Sequence[tuple[Item, ...]], parts: Mapping[str, Part], share: float) -> None:
        self._lacking: dict[str, float] = defaultdict(float)  # images that each stratum's test part still lacks
        self._training_units: Counter[str] = Counter()  # of each stratum, outside the test part
        self._offered: dict[str, list[tuple[Item, ...]]] = defaultdict(list)
        for unit in units:
            stratum = _stratum(unit)
            tested = sum(parts.get(item.id) == "test" for item in unit)
            self._lacking[stratum] += share * len(unit) - tested
            self._training_units[stratum] += tested == 0

    def offer(self, unit: tuple[Item, ...]) -> None:
        """Make a unit available, after the units of its stratum that were offered before."""
        self._offered[_stratum(unit)].append(unit)

    def chosen(self) -> list[tuple[Item, ...]]:
        """Return the units for the test part."""
        chosen = []
        total_lacking = sum(self._lacking.values())
        while self._offered:
            stratum = max(self._offered, key=lambda name: (self._lacking[name], name))
            unit = self._offered[stratum].pop(0)
            if not self._offered[stratum]:
                del self._offered[stratum]
            # Chosen when that brings the number of test images nearer to the wanted one.
            if self._training_units[stratum] > 1 and len(unit) < 2 * total_lacking:
                chosen.append(unit)
                self._training_units[stratum] -= 1
                self._lacking[stratum] -= len(unit)
                total_lacking -= len(unit)
        return chosen


def _units(items: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Return the items joined by a shared group or file hash (union-find), each unit and the list in order of ids."""
    root: dict[str, str] = {}

    def find(key: str) -> str:
        while root.setdefault(key, key) != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for item in items:
        for name, value in (("group", item.group), ("hash", item.file_hash)):
            if value:
                root[find(f"{name}:{value}")] = find(f"id:{item.id}")
    members: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.id):
        members[find(f"id:{item.id}")].append(item)
    return [tuple(unit) for unit in members.values()]


def _stratum(unit: Sequence[Item]) -> str:
    """Return the most frequent stratum of a unit."""
    counts = Counter(item.stratum for item in unit)
    return max(counts, key=lambda name: (counts[name], name))


def _order(unit: Sequence[Item], seed: int) -> bytes:
    """Return a key that sorts units in an order drawn from the seed."""
    return hashlib.sha256(f"{seed}:{unit[0].id}".encode()).digest()
