from hypothesis import given
from hypothesis import strategies as st

from taxonomist.taxonomy.paths import common_prefix, deepest, format_path, prefixes

PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple), max_size=8)


def test_paths_read_from_the_top_down() -> None:
    assert format_path(("Bad", "WC")) == "Bad › WC"
    assert list(prefixes(("A", "B", "C"))) == [("A",), ("A", "B"), ("A", "B", "C")]


def test_common_prefix() -> None:
    assert common_prefix([("A", "B", "C"), ("A", "B"), ("A", "B", "D")]) == ("A", "B")
    assert common_prefix([("A",), ("B",)]) == ()
    assert common_prefix(iter([("A", "B")])) == ("A", "B")
    assert common_prefix([]) == ()


def test_deepest_keeps_only_paths_that_nothing_continues() -> None:
    assert deepest([("B",), ("A", "B"), ("A",), ("A", "C"), ("B",)]) == (("A", "B"), ("A", "C"), ("B",))


@given(PATHS)
def test_common_prefix_is_the_longest_one(paths: list[tuple[str, ...]]) -> None:
    shared = common_prefix(paths)
    assert all(path[: len(shared)] == shared for path in paths)
    longer = {path[: len(shared) + 1] for path in paths}
    assert len(longer) != 1 or shared in longer


@given(PATHS)
def test_deepest_loses_no_node(paths: list[tuple[str, ...]]) -> None:
    kept = deepest(paths)
    assert {node for path in kept for node in prefixes(path)} == {node for path in paths for node in prefixes(path)}
    assert not any(one != other and other[: len(one)] == one for one in kept for other in kept)
