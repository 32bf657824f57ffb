from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.training.split import Item, Part, assign_test, split_validation


def products(counts: dict[str, int], views: int = 4) -> list[Item]:
    """Return the items of `counts` products of each stratum, with `views` images each."""
    return [
        Item(f"{stratum}{p}-{v}", f"{stratum}{p}", None, stratum)
        for stratum, count in counts.items()
        for p in range(count)
        for v in range(views)
    ]


def test_share_and_strata() -> None:
    items = products({"a": 40, "b": 10, "c": 5})
    parts = assign_test(items, {}, 0.2)
    assert Counter(item.stratum for item in items if parts[item.id] == "test") == {"a": 32, "b": 8, "c": 4}


def test_many_small_strata_still_give_a_test_part() -> None:
    items = products({f"s{i}": 2 for i in range(50)}, views=1)
    parts = assign_test(items, {}, 0.2)
    assert Counter(parts.values()) == {"train": 80, "test": 20}
    strata = Counter(item.stratum for item in items if parts[item.id] == "test")
    assert max(strata.values()) == 1


def test_a_stratum_with_one_unit_trains() -> None:
    items = [*products({"a": 10}), *products({"lonely": 1})]
    parts = assign_test(items, {}, 0.5)
    assert {parts[item.id] for item in items if item.stratum == "lonely"} == {"train"}


def test_four_images_of_two_kinds() -> None:
    items = products({"a": 2, "b": 2}, views=1)
    assert Counter(assign_test(items, {}, 0.2).values()) == {"train": 3, "test": 1}


def test_group_and_hash_chain_into_one_unit() -> None:
    chain = [
        Item("1", "g1", "h1", "a"),
        Item("2", "g1", "h2", "a"),
        Item("3", None, "h2", "b"),
        Item("4", "g4", "h2", "a"),
        Item("5", "g4", None, "a"),
    ]
    for seed in range(20):
        parts = assign_test([*chain, *products({"a": 4, "b": 4}, views=2)], {}, 0.3, seed)
        assert len({parts[item.id] for item in chain}) == 1


def test_fixed_for_life_as_a_project_grows() -> None:
    items = products({"a": 30, "b": 30})
    random = np.random.default_rng(0)
    random.shuffle(items)  # type: ignore[arg-type]
    parts: dict[str, Part] = {}
    for upto in range(20, len(items) + 1, 20):
        before = dict(parts)
        parts = assign_test(items[:upto], before, 0.2)
        assert {id: parts[id] for id in before} == before
        sides: dict[str | None, Part] = {}
        for item in items[:upto]:
            assert sides.setdefault(item.group, parts[item.id]) == parts[item.id]
    assert 0.15 < Counter(parts.values())["test"] / len(items) < 0.25


def test_unit_that_joins_both_parts_is_kept_from_training() -> None:
    items = [Item("old-test", "g", None, "a"), Item("old-train", None, "h", "a"), Item("new", "g", "h", "a")]
    parts = assign_test(items, {"old-test": "test", "old-train": "train"})
    assert parts == {"old-test": "test", "old-train": "train", "new": "test"}


def test_validation_indices() -> None:
    items = products({"a": 10, "b": 10})
    training, validation = split_validation(items, 0.2, seed=3)
    assert sorted(training + validation) == list(range(80))
    assert Counter(items[index].stratum for index in validation) == {"a": 8, "b": 8}
    assert not {items[i].group for i in training} & {items[i].group for i in validation}
    assert split_validation([], 0.2) == ([], [])


groups = st.one_of(st.none(), st.sampled_from("pqrs"))


@given(
    st.lists(st.tuples(groups, groups, st.sampled_from("abc")), max_size=30),
    st.floats(0.05, 0.5),
    st.integers(0, 5),
)
def test_no_unit_on_both_sides_whatever_the_order(
    rows: list[tuple[str | None, str | None, str]], share: float, seed: int
) -> None:
    items = [Item(f"{i:02}", group, file_hash, stratum) for i, (group, file_hash, stratum) in enumerate(rows)]
    parts = assign_test(items, {}, share, seed)
    assert parts.keys() == {item.id for item in items}
    assert assign_test(items[::-1], {}, share, seed) == parts
    for one in items:
        for other in items:
            if (one.group and one.group == other.group) or (one.file_hash and one.file_hash == other.file_hash):
                assert parts[one.id] == parts[other.id]
    if items:
        assert "train" in parts.values()
