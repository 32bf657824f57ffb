from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.training.split import Item, Part, assign_test, draw_again, lost_test_share, split_validation


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
    """Also where it would bring the test part nearer to its share."""
    items = products({"a": 3, "lonely": 1})
    parts = assign_test(items, {}, 0.5)
    assert {parts[item.id] for item in items if item.stratum == "lonely"} == {"train"}
    assert Counter(parts.values()) == {"train": 8, "test": 8}


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


def test_what_was_labelled_in_one_action_draws_no_test_unit() -> None:
    single, bulk = products({"a": 20, "b": 20}), [replace(item, bulk=True) for item in products({"c": 20})]
    mixed = [replace(item, bulk=item.id.endswith(("-2", "-3"))) for item in products({"m": 20})]
    parts = assign_test([*single, *bulk, *mixed], {}, 0.2)
    assert {parts[item.id] for item in bulk} == {"train"}
    assert Counter(item.stratum for item in single if parts[item.id] == "test") == {"a": 16, "b": 16}
    # Half of these images may test, so a fifth of that half does: 4 of 20 products, as without the others.
    assert sum(parts[item.id] == "test" and not item.bulk for item in mixed) == 8
    again = draw_again([*single, *bulk], {item.id: "test" for item in bulk}, 0.2)
    assert {again[item.id] for item in bulk} == {"train"}


def test_a_tested_product_stays_when_an_image_of_it_is_labelled_in_an_action() -> None:
    items = products({"a": 20})
    parts = assign_test(items, {}, 0.2)
    added = [replace(item, id=f"{item.id}-new", bulk=True) for item in items]
    assert {id: part for id, part in assign_test([*items, *added], parts).items() if id in parts} == parts


def test_a_product_that_was_trained_on_is_never_tested() -> None:
    joins_both = [Item("old-test", "g", None, "a"), Item("old-train", None, "h", "a"), Item("new", "g", "h", "a")]
    others = products({"a": 5}, views=1)
    parts = assign_test([*joins_both, *others], {"old-test": "test", "old-train": "train"})
    assert {parts[item.id] for item in joins_both} == {"train"}
    for seed in range(10):  # its images are gone from the project, a new one comes
        again = Item("again", "g", None, "a", trained=True)
        assert assign_test([again, *others], {}, 0.5, seed)["again"] == "train"


def kinds(counts: dict[str, int]) -> list[Item]:
    """Return one item per product; each kind of `counts` is a node at level 2, named by its level-1 node and itself."""
    return [
        Item(f"{kind}{n}", f"{kind}{n}", None, kind[0], frozenset({("c", kind[0]), ("c", kind[0], kind)}))
        for kind, count in counts.items()
        for n in range(count)
    ]


def test_a_rare_kind_is_never_wholly_in_the_test_part() -> None:
    items = kinds({"a-common": 12, "a-rare": 1, "a-pair": 2, "b-common": 9, "b-rare": 1})
    for seed in range(50):
        parts = assign_test(items, {}, 0.4, seed)
        training = {item.id[:-1].rstrip("0123456789") for item in items if parts[item.id] == "train"}
        assert training == {"a-common", "a-rare", "a-pair", "b-common", "b-rare"}
        assert "test" in parts.values()


def test_a_kind_that_became_rare_in_the_test_part_trains_again() -> None:
    items = kinds({"a-common": 8, "a-rare": 1, "a-other": 3})
    fixed: dict[str, Part] = {"a-rare0": "test", "a-common0": "test", "a-common1": "train"}
    parts = assign_test(items, fixed)
    assert (parts["a-rare0"], parts["a-common0"], parts["a-common1"]) == ("train", "test", "train")


def test_where_most_nodes_have_one_product_they_may_be_tested() -> None:
    items = kinds({f"{top}-{n}": 1 for top in "ab" for n in range(20)})
    parts = assign_test(items, {}, 0.2)
    assert Counter(parts.values()) == {"train": 32, "test": 8}
    single = kinds({"a-one": 1, "b-one": 1, "c-one": 1})  # not even level 1 could be scored
    assert set(assign_test(single, {}, 0.5).values()) == {"train"}


def test_when_products_become_known_test_units_come_first_from_untrained_products() -> None:
    items = products({"a": 20, "b": 20})
    fixed: dict[str, Part] = {item.id: "train" for item in items}
    fresh = {f"{stratum}{p}" for stratum in "ab" for p in range(3)}
    for item in items:
        if item.group in fresh or item.id.endswith("-0"):  # one view of each product was tested
            fixed[item.id] = "test"
    assert lost_test_share(items, fixed) == 34 / (34 + 24)
    parts = draw_again(items, fixed, 0.2)
    tested = {item.group for item in items if parts[item.id] == "test"}
    assert fresh < tested
    assert len(tested) == 8
    assert assign_test(items, parts) == parts  # and from then on they stay
    assert lost_test_share(items, parts) == 0


def test_near_duplicates_are_one_unit() -> None:
    items = [replace(item, group=None, near=f"n{int(item.id[1:]) // 2}") for item in plain("a", 12)]
    for seed in range(20):
        parts = assign_test(items, {}, 0.3, seed)
        assert all(parts[items[n].id] == parts[items[n + 1].id] for n in range(0, 12, 2))


def plain(stratum: str, count: int) -> list[Item]:
    return [Item(f"{stratum}{n}", f"{stratum}{n}", None, stratum) for n in range(count)]


def test_validation_indices() -> None:
    items = products({"a": 10, "b": 10})
    training, validation = split_validation(items, 0.2, seed=3)
    assert sorted(training + validation) == list(range(80))
    assert Counter(items[index].stratum for index in validation) == {"a": 8, "b": 8}
    assert not {items[i].group for i in training} & {items[i].group for i in validation}
    assert split_validation([], 0.2) == ([], [])


some = st.one_of(st.none(), st.sampled_from("pqrs"))
rows = st.lists(
    st.tuples(some, some, some, st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()),
    max_size=30,
)
fixed_parts = st.dictionaries(st.integers(0, 29), st.sampled_from(["test", "train"]))


def row_items(rows: list[tuple[str | None, str | None, str | None, str, str, bool]]) -> list[Item]:
    return [
        Item(f"{i:02}", group, file_hash, top, frozenset({("c", top), ("c", top, kind)}), near, trained)
        for i, (group, file_hash, near, top, kind, trained) in enumerate(rows)
    ]


@given(rows, fixed_parts, st.floats(0.05, 0.5), st.integers(0, 5), st.booleans())
def test_no_product_in_two_parts_whatever_the_order_and_the_history(
    rows: list[tuple[str | None, str | None, str | None, str, str, bool]],
    numbers: dict[int, Part],
    share: float,
    seed: int,
    again: bool,
) -> None:
    items = row_items(rows)
    fixed = {f"{number:02}": part for number, part in numbers.items()}
    assign = draw_again if again else assign_test
    parts = assign(items, fixed, share, seed)
    assert parts.keys() == {item.id for item in items}
    assert assign(items[::-1], fixed, share, seed) == parts
    for item in items:
        for other in items:
            if any(
                mine and mine == theirs
                for mine, theirs in (
                    (item.group, other.group),
                    (item.file_hash, other.file_hash),
                    (item.near, other.near),
                )
            ):
                assert parts[item.id] == parts[other.id]
    if not again:
        assert all(parts[id] == "train" for id, part in fixed.items() if part == "train" and id in parts)
    if items:
        assert "train" in parts.values()
        learned, validation = split_validation(items, share, seed)
        assert sorted(learned + validation) == list(range(len(items)))
