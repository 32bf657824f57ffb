"""The parts of labelled images, and the labels that test images are scored on."""

from __future__ import annotations

from collections import Counter

from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example, split_examples

KINDS = {
    ("a", "common"): 20,
    ("a", "rare"): 1,
    ("a", "pair"): 2,
    ("b", "common"): 12,
    ("b", "other"): 4,
    ("b", "rare"): 1,
}
TREE = Tree("c", "image", "taxonomy", (("a",), ("b",), *KINDS))


def examples(views: int = 3) -> list[Example]:
    """Return `views` images of each product of each kind."""
    return [
        Example(f"{'-'.join(kind)}-{p}-{view}", {"c": (kind,)}, group=f"{'-'.join(kind)}-{p}")
        for kind, products in KINDS.items()
        for p in range(products)
        for view in range(views)
    ]


def test_a_rare_kind_is_never_wholly_in_the_test_part() -> None:
    for seed in range(30):
        split = split_examples(examples(), [TREE], 0.3, seed)
        learned = {example.labels["c"][0] for example in split.usable if split.parts[example.id] == "train"}
        assert learned == set(KINDS)
        assert 0.2 < Counter(split.parts.values())["test"] / len(split.parts) < 0.35


def test_images_without_a_product_that_are_near_duplicates_share_a_part() -> None:
    nameless = [
        Example(example.id, example.labels, near=example.group, file_hash=None)
        for example in examples()
        if example.group
    ]
    split = split_examples(nameless, [TREE], 0.3)
    sides: dict[str | None, set[str]] = {}
    for example in split.usable:
        sides.setdefault(example.near, set()).add(split.parts[example.id])
    assert all(len(parts) == 1 for parts in sides.values())


def test_the_split_is_drawn_again_where_most_test_images_show_trained_products() -> None:
    by_view = [
        Example(example.id, example.labels, example.group, part="test" if example.id.endswith("0") else "train")
        for example in examples()
    ]
    assert split_examples(by_view, [TREE]).drawn_again
    few = [
        Example(example.id, example.labels, example.group, part="test" if n % 3 == 0 and n < 6 else "train")
        for n, example in enumerate(examples())
    ]
    few[6:9] = [Example(example.id, example.labels, example.group, part="test") for example in few[6:9]]
    kept = split_examples(few, [TREE])
    assert not kept.drawn_again  # two of five test images are lost: they train from now on
    assert [id for id, part in sorted(kept.parts.items()) if part == "test"] == [example.id for example in few[6:9]]
    assert split_examples(few, [TREE], products_are_new=True).drawn_again
