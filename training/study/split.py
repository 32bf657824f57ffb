"""The split of a study's labelled images into training, validation and test part, by product. No torch."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.split import Item, assign_test, split_validation

Positions = npt.NDArray[np.int64]
"""(n,): ascending positions among the items."""


def held_out_groups(groups: Iterable[str], share: float = 0.25, seed: int = 0) -> frozenset[str]:
    """Return about `share` of the products, for tests on products that no pre-training has seen.

    The name alone decides, so that products that are added to the catalogue do not change the draw.
    """
    return frozenset(group for group in groups if _number(f"{seed}:{group}") < share)


@dataclass(frozen=True)
class Sizes:
    """Numbers of images in the three parts."""

    train: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        """The number of images in all parts."""
        return self.train + self.validation + self.test

    def within(self, learning: int, testing: int) -> "Sizes":
        """Return the sizes, scaled down by one factor when there are fewer images to learn from or to test on.

        Raises TrainingError when a part would be empty.
        """
        share = min(1.0, learning / (self.train + self.validation), testing / self.test)
        train, validation, test = (int(share * size) for size in (self.train, self.validation, self.test))
        if not min(train, validation, test):
            raise TrainingError(
                f"{learning} labelled images to learn from and {testing} to test on are too few for a study.",
                hint=f"Label more images, or request fewer than {self.train}, {self.validation} and {self.test}.",
            )
        return Sizes(train, validation, test)


@dataclass(frozen=True)
class Split:
    """The images of each part."""

    train: Positions
    validation: Positions
    test: Positions


def sizes_for(items: Sequence[Item], held_out: frozenset[str], wanted: Sizes) -> Sizes:
    """Return `wanted`, scaled down when there are not enough images. Raises TrainingError when a part is empty."""
    if not held_out:
        share = len(items) / wanted.total
        return wanted.within(int(share * (wanted.train + wanted.validation)), int(share * wanted.test))
    learning, testing = _by_held_out(items, held_out)
    return wanted.within(len(learning), len(testing))


def draw_split(items: Sequence[Item], held_out: frozenset[str], sizes: Sizes, seed: int) -> Split:
    """Return a split that depends on the seed, not on the order of the items.

    First the products are divided, in proportion to `sizes` and stratified at level 1; with `held_out` those products
    are for testing and the others for learning. Then images are drawn from each part's products: from each stratum in
    proportion to its share of the catalogue, as far as it has that many, and from as many products as possible. Parts
    may be a few images short, since a product is never divided.
    """
    if held_out:
        learning, testing = _by_held_out(items, held_out)
    else:
        parts = assign_test(items, {}, sizes.test / sizes.total, seed)
        learning = [row for row, item in enumerate(items) if parts[item.id] == "train"]
        testing = [row for row, item in enumerate(items) if parts[item.id] == "test"]
    share = sizes.validation / (sizes.train + sizes.validation)
    train, validation = split_validation([items[row] for row in learning], share, seed)
    return Split(
        _draw(items, [learning[row] for row in train], sizes.train, seed),
        _draw(items, [learning[row] for row in validation], sizes.validation, seed),
        _draw(items, testing, sizes.test, seed),
    )


def draw_splits(items: Sequence[Item], held_out: frozenset[str], sizes: Sizes, seeds: int) -> list[Split]:
    """Return the splits of the seeds 0 to `seeds` - 1. Raises TrainingError when a part is empty in one of them."""
    splits = [draw_split(items, held_out, sizes, seed) for seed in range(seeds)]
    for seed, split in enumerate(splits):
        train, validation, test = (len(part) for part in (split.train, split.validation, split.test))
        if not min(train, validation, test):
            products = len({item.group or item.id for item in items})
            raise TrainingError(
                f"{len(items)} labelled images of {products} products are too few for a study: seed {seed} gives "
                f"{train} for training, {validation} for validation and {test} for the test.",
                hint="Label images of more products.",
            )
    return splits


def _by_held_out(items: Sequence[Item], held_out: frozenset[str]) -> tuple[list[int], list[int]]:
    """Return the images to learn from, and those to test on: of held-out products, without copies of the former."""
    learning = [row for row, item in enumerate(items) if item.group not in held_out]
    seen = {items[row].file_hash for row in learning} - {None}
    testing = [row for row, item in enumerate(items) if item.group in held_out and item.file_hash not in seen]
    return learning, testing


def _draw(items: Sequence[Item], rows: Sequence[int], count: int, seed: int) -> Positions:
    strata: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: _number(f"{seed}:{items[row].id}")):
        strata[items[row].stratum][items[row].group or items[row].id].append(row)
    whole = Counter(item.stratum for item in items)
    available = {name: sum(map(len, products.values())) for name, products in strata.items()}
    drawn: list[int] = []
    for name, quota in _quotas(whole, available, count).items():
        # First one image of each product, then a second one of each, and so on.
        products = strata[name].values()
        in_turn = sorted((turn, number, row) for number, rows in enumerate(products) for turn, row in enumerate(rows))
        drawn += [row for _, _, row in in_turn[:quota]]
    return np.sort(np.array(drawn, np.int64))


def _quotas(whole: Mapping[str, int], available: Mapping[str, int], count: int) -> Counter[str]:
    """Return the number of images to draw from each stratum: in proportion to the catalogue, at most the available."""
    share = count / sum(whole.values())
    quotas: Counter[str] = Counter()
    for _ in range(min(count, sum(available.values()))):
        unfilled = (name for name in sorted(available) if quotas[name] < available[name])
        quotas[max(unfilled, key=lambda name: share * whole[name] - quotas[name])] += 1
    return quotas


def _number(text: str) -> float:
    """Return a number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
