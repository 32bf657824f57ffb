"""What to label next: typical images, then products without a label, and a random share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.labelling_order import is_random_draw, labelling_order
from taxonomist.taxonomy.labelling_order.typical_images import typical_images


def groups(*sizes: int) -> NDArray[np.float32]:
    """Return images in groups that are far apart; within a group, the first image is its middle."""
    random = np.random.default_rng(0)
    parts = []
    for number, size in enumerate(sizes):
        part = random.normal(size=(size, 6)) * 0.1
        part[0] = 0
        part[:, number] += 10
        parts.append(part)
    return np.concatenate(parts).astype(np.float32)


def test_the_middle_of_the_largest_groups_comes_first() -> None:
    x = groups(20, 40, 30)
    assert typical_images(x, np.zeros(90, np.bool_), 3).tolist() == [20, 60, 0]


def test_a_group_with_a_label_is_left_out() -> None:
    x = groups(20, 40, 30)
    labelled = np.zeros(90, np.bool_)
    labelled[25] = True
    assert typical_images(x, labelled, 2).tolist() == [60, 0]


def test_after_the_first_labels_products_without_a_label_come_first() -> None:
    products = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    labelled = np.array([1, 0, 0, 0, 0, 1, 1, 0, 0], np.bool_)
    order = labelling_order(groups(9), products, labelled, np.zeros(9, np.bool_), first=0)
    owners = products[order].tolist()
    assert sorted(owners[:2]) == [1, 3]  # no label yet
    assert sorted(owners[2:4]) == [0, 1]  # one label, or one image before
    assert sorted(owners[4:]) == [0, 2]


def test_the_random_share_is_spread_over_the_order_and_independent_of_the_images() -> None:
    random = np.random.default_rng(1)
    count = 1000
    at_random = random.random(count) < 0.2
    products = np.arange(count) // 4
    orders = [
        labelling_order(
            groups(*sizes),
            products,
            np.zeros(count, np.bool_),
            at_random,
            first=20,
        )
        for sizes in ((600, 400), (100, 900))
    ]
    for order in orders:
        assert sorted(order.tolist()) == list(range(count))
        shares = at_random[order].reshape(4, -1).mean(axis=1)
        assert np.abs(shares - at_random.mean()).max() < 0.06
    first, second = (order[at_random[order]].tolist() for order in orders)
    assert first == second  # whatever the images show
    assert first != sorted(first)


def test_an_image_is_drawn_at_random_by_its_id_alone() -> None:
    drawn = [is_random_draw("4", f"image {number}", 0.2) for number in range(10_000)]
    assert np.mean(drawn) == pytest.approx(0.2, abs=0.012)  # three standard errors
    assert drawn == [is_random_draw("4", f"image {number}", 0.2) for number in range(10_000)]
    assert drawn != [is_random_draw("5", f"image {number}", 0.2) for number in range(10_000)]
    assert all(is_random_draw("4", f"image {number}", 1.0) for number in range(100))
    more = [is_random_draw("4", f"image {number}", 0.3) for number in range(10_000)]
    assert all(now for now, before in zip(more, drawn, strict=True) if before)  # a larger share keeps the sample


def test_identical_images_and_few_images_have_an_order() -> None:
    x = np.ones((5, 3), np.float32)
    none = np.zeros(5, np.bool_)
    assert sorted(labelling_order(x, np.zeros(5, np.int64), none, none).tolist()) == [0, 1, 2, 3, 4]
    empty = np.zeros(0, np.bool_)
    assert labelling_order(x[:0], np.zeros(0, np.int64), empty, empty).tolist() == []
    with pytest.raises(ValueError, match="2 products"):
        labelling_order(x, np.zeros(2, np.int64), none, none)
