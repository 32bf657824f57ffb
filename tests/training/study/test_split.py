from collections import Counter
from typing import Any

import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.split import Item
from taxonomist.training.study.split import Sizes, draw_split, draw_splits, held_out_groups, sizes_for

SIZES = Sizes(60, 24, 36)


def items(products: int = 80, views: int = 5) -> list[Item]:
    strata = ("a",) * 6 + ("b",) * 3 + ("c",)
    return [
        Item(f"{product}-{view}", f"p{product}", None, strata[product % 10])
        for product in range(products)
        for view in range(views)
    ]


def groups_of(rows: NDArray[Any], among: list[Item]) -> set[str | None]:
    return {among[row].group for row in rows}


@pytest.mark.parametrize("held_out", [frozenset[str](), held_out_groups([f"p{n}" for n in range(80)], 0.4)])
def test_no_product_stands_in_two_parts(held_out: frozenset[str]) -> None:
    among = items()
    for seed in range(5):
        split = draw_split(among, held_out, SIZES, seed)
        parts = [groups_of(rows, among) for rows in (split.train, split.validation, split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert [len(split.train), len(split.validation), len(split.test)] == [60, 24, 36]
        if held_out:
            assert parts[2] <= held_out
            assert not (parts[0] | parts[1]) & held_out


def test_parts_are_stratified_and_take_many_products() -> None:
    among = items()
    split = draw_split(among, frozenset(), SIZES, 0)
    for rows in (split.train, split.validation, split.test):
        counts = Counter(among[row].stratum for row in rows)
        for stratum, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert counts[stratum] == pytest.approx(share * len(rows), abs=0.05 * len(rows))
    per_product = Counter(among[row].group for row in split.train)
    assert max(per_product.values()) <= 2  # 60 images of about 40 products


def test_each_seed_draws_its_own_split_whatever_the_order() -> None:
    among = items()
    turned = among[::-1]
    for seed in range(3):
        one, other = draw_split(among, frozenset(), SIZES, seed), draw_split(turned, frozenset(), SIZES, seed)
        assert {among[row].id for row in one.test} == {turned[row].id for row in other.test}
    tests = [tuple(draw_split(among, frozenset(), SIZES, seed).test) for seed in range(5)]
    assert len(set(tests)) == 5


def test_all_labels_are_used_where_there_are_just_enough() -> None:
    among = items(products=24)
    split = draw_split(among, frozenset(), SIZES, 0)
    assert len(split.train) + len(split.validation) + len(split.test) >= len(among) - 8  # products stay whole
    assert len(split.test) == pytest.approx(36, abs=5)


def test_sizes_shrink_alike() -> None:
    among = items(products=12)  # 60 images for 120
    assert sizes_for(among, frozenset(), SIZES) == Sizes(30, 12, 18)
    assert sizes_for(items(), frozenset(), SIZES) == SIZES
    assert sizes_for(among, frozenset({"p0", "p1"}), SIZES) == Sizes(16, 6, 10)  # ten test images for 36
    with pytest.raises(TrainingError, match=r"4 labelled images to learn from and 1 to test on"):
        sizes_for(items(products=5, views=1), frozenset({"p0"}), SIZES)
    with pytest.raises(TrainingError):
        sizes_for(among, frozenset({"elsewhere"}), SIZES)


def test_too_few_products_are_an_error_that_counts_them() -> None:
    """Products are never divided, so a part may get no image although there are enough of them."""
    among = [Item(f"{n}", f"p{n % 2}", None, "ab"[n % 2]) for n in range(4)]
    with pytest.raises(TrainingError, match=r"4 labelled images of 2 products are too few .* 0 for validation"):
        draw_splits(among, frozenset(), Sizes(2, 1, 1), seeds=1)


def test_copies_of_a_file_are_one_product() -> None:
    among = [Item(f"{n}", f"p{n}", f"file {n % 40}", "ab"[n % 2]) for n in range(120)]
    for held_out in (frozenset[str](), frozenset(f"p{n}" for n in range(60))):
        for seed in range(3):
            split = draw_split(among, held_out, Sizes(30, 12, 18), seed)
            files = [{among[row].file_hash for row in rows} for rows in (split.train, split.validation, split.test)]
            assert sum(map(len, files)) == len(set.union(*files))


def test_held_out_products_stay_held_out() -> None:
    names = [f"p{n}" for n in range(2000)]
    held_out = held_out_groups(names)
    assert len(held_out) == pytest.approx(500, abs=60)
    assert held_out_groups(names[:700]) == held_out & set(names[:700])  # what is added changes nothing
    assert held_out_groups(names, seed=1) != held_out
    assert held_out_groups(names, share=0.1) < held_out
    assert held_out_groups(["p0000"]) == held_out_groups(["p0000", "p0001"]) & {"p0000"}
