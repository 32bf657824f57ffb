"""Which labelled images test a model, which train it, and which stop its training.

Images of one group (one product, one service report) or with the same bytes are one unit and never stand on both sides:
a model that has seen the same product is not tested by another view of it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["test", "train"]


@dataclass(frozen=True)
class Item:
    """What the split needs to know of an image: `stratum` is its level-1 label."""

    id: str
    group: str | None
    file_hash: str | None
    stratum: str


def assign_test(items: Sequence[Item], fixed: Mapping[str, Part], share: float = 0.2, seed: int = 0) -> dict[str, Part]:
    """The part of every item, by id.

    What `fixed` names keeps its part for life, and new images of its unit follow it (a unit that joins images of both
    parts goes to the test part: training must not see it). The other units are drawn so that about `share` of all
    images, and of each stratum, is in the test part. Of every stratum at least one unit stays for training. The draw
    depends on `seed` and ids, not on the order of `items`.
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
    """Indices into `items` for (training, validation), by unit and stratified as in `assign_test`."""
    parts = assign_test(items, {}, share, seed)
    training = [index for index, item in enumerate(items) if parts[item.id] == "train"]
    validation = [index for index, item in enumerate(items) if parts[item.id] == "test"]
    return training, validation


class _Draw:
    """Takes units from the stratum that lacks most test images, until the share of all images is reached."""

    def __init__(self, units: Sequence[tuple[Item, ...]], parts: Mapping[str, Part], share: float) -> None:
        self._wanted: dict[str, float] = defaultdict(float)  # images that each stratum's test part still lacks
        self._left: Counter[str] = Counter()  # units of the stratum outside the test part
        self._waiting: dict[str, list[tuple[Item, ...]]] = defaultdict(list)
        for unit in units:
            stratum = _stratum(unit)
            tested = sum(parts.get(item.id) == "test" for item in unit)
            self._wanted[stratum] += share * len(unit) - tested
            self._left[stratum] += tested == 0

    def offer(self, unit: tuple[Item, ...]) -> None:
        self._waiting[_stratum(unit)].append(unit)

    def chosen(self) -> list[tuple[Item, ...]]:
        taken = []
        lacking = sum(self._wanted.values())
        while self._waiting:
            stratum = max(self._waiting, key=lambda name: (self._wanted[name], name))
            unit = self._waiting[stratum].pop(0)
            if not self._waiting[stratum]:
                del self._waiting[stratum]
            # Taken when that brings the number of test images nearer to the one wanted.
            if self._left[stratum] > 1 and len(unit) < 2 * lacking:
                taken.append(unit)
                self._left[stratum] -= 1
                self._wanted[stratum] -= len(unit)
                lacking -= len(unit)
        return taken


def _units(items: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Items joined by a shared group or file hash (union-find), each unit and the list in order of ids."""
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
    counts = Counter(item.stratum for item in unit)
    return max(counts, key=lambda name: (counts[name], name))


def _order(unit: Sequence[Item], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{unit[0].id}".encode()).digest()
