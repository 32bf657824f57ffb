import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath
from taxonomist.taxonomy.suggestion import Calibration, Suggestion, suggest, vote, why_none
from taxonomist.taxonomy.tree import Tree

from .conftest import FLAT, SMALL

LEAFS = replace(SMALL, leafs_only=True)
# likeliest way: A 0.75, A/B 0.5, A/B/X 0.4; D with its only child has 0.25
PROBABILITIES = np.array([0.75, 0.5, 0.4, 0.1, 0.25, 0.25, 0.25])


def calibration(*thresholds: float, temperature: float = 1.0) -> Calibration:
    return Calibration(temperature, thresholds, 0.9, (10, 10, 10))


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((0.7, 0.5, 0.4), Suggestion(("A", "B", "X"), 0.4, 3)),
        ((0.7, 0.5, 0.41), Suggestion(("A", "B"), 0.5, 2)),
        ((0.7, 0.6, 0.5), Suggestion(("A",), 0.75, 1)),
        ((0.8, 0.6, 0.5), None),
        ((math.inf, math.inf, math.inf), None),
        ((math.inf, 0.5, math.inf), Suggestion(("A", "B"), 0.5, 2)),
    ],
)
def test_backs_off_to_the_parent(thresholds: tuple[float, ...], expected: Suggestion | None) -> None:
    assert suggest(SMALL, PROBABILITIES, calibration(*thresholds)) == expected


@pytest.mark.parametrize(
    ("tree", "thresholds", "expected"),
    [
        (SMALL, (0.8, 0.6, 0.5), "not sure enough: the likeliest is A with a probability of 0.75, and 0.80 is needed"),
        (SMALL, (math.inf, 0.6, 0.5), "the likeliest is A › B with a probability of 0.50, and 0.60 is needed"),
        (LEAFS, (0.7, 0.5, 0.5), "the likeliest is A › B › X with a probability of 0.40, and 0.50 is needed"),
        (LEAFS, (0.7, 0.5, math.inf), "A › B › X with a probability of 0.40, and at its level nothing can be promised"),
        (SMALL, (math.inf,) * 3, "10 of more than 20 that calibrate. The likeliest path is A › B › X with a prob"),
    ],
)
def test_why_there_is_none(tree: Tree, thresholds: tuple[float, ...], expected: str) -> None:
    assert suggest(tree, PROBABILITIES, calibration(*thresholds)) is None
    assert expected in why_none(tree, PROBABILITIES, calibration(*thresholds))


def test_leafs_only_is_a_leaf_or_nothing() -> None:
    assert suggest(LEAFS, PROBABILITIES, calibration(0, 0, 0.4)) == Suggestion(("A", "B", "X"), 0.4, 3)
    assert suggest(LEAFS, PROBABILITIES, calibration(0, 0, 0.41)) is None


def test_no_answer_is_never_suggested() -> None:
    tree = Tree("media", "image", "taxonomy", (("A",), NO_ANSWER))
    assert suggest(tree, np.array([0.4, 0.6]), Calibration(1.0, (0.1,), 0.9, (10,))) is None
    assert suggest(tree, np.array([0.6, 0.4]), Calibration(1.0, (0.1,), 0.9, (10,))) == Suggestion(("A",), 0.6, 1)
    assert vote(FLAT, [(("A",), 1.0), (NO_ANSWER, 1.0), (NO_ANSWER, 1.0)]) is None


WIDE = Tree.from_paths("media", [("A", name) for name in "abcdefgh"] + [("B", "i")])


def test_where_no_path_is_sure_a_shortlist_is_suggested_with_its_parent() -> None:
    row = np.zeros(len(WIDE))
    for path, value in {("A",): 0.75, ("A", "a"): 0.4, ("A", "b"): 0.35, ("B",): 0.25, ("B", "i"): 0.25}.items():
        row[WIDE.index[path]] = value
    unsure = Calibration(1.0, (0.8, 0.8), 0.9, (10, 10), (math.inf, 0.7))
    listed = (("A", "a"), ("A", "b"))
    assert suggest(WIDE, row, unsure) == Suggestion(("A",), 0.75, 1, listed)
    assert suggest(replace(WIDE, leafs_only=True), row, unsure) == Suggestion((), 0.75, 0, listed)
    assert suggest(WIDE, row, replace(unsure, thresholds=(0.75, 0.75))) == Suggestion(("A",), 0.75, 1)
    assert suggest(WIDE, row, replace(unsure, shortlists=(math.inf, 0.8))) is None
    row[WIDE.index["B",]] = row[WIDE.index["B", "i"]] = 0.5
    apart = suggest(WIDE, row, replace(unsure, shortlists=(math.inf, 0.5)))
    assert apart == Suggestion((), 0.9, 0, (("B", "i"), ("A", "a")))


def test_the_way_is_greedy() -> None:
    # the likeliest node of level 2 is D/E, but D is less likely than A
    probabilities = np.array([0.55, 0.3, 0.2, 0.1, 0.25, 0.45, 0.45])
    assert suggest(SMALL, probabilities, calibration(0, 0, math.inf)) == Suggestion(("A", "B"), 0.3, 2)


def test_scores_stay_within_bounds() -> None:
    above = np.array([1 + 1e-7, 0.5, 0.4, 0.1, 0.25, 0.0, 0.0], dtype=np.float32)
    result = suggest(SMALL, above, calibration(0.5, math.inf, math.inf))
    assert result is not None
    assert result.score == 1.0
    assert suggest(SMALL, np.full(7, np.nan), calibration(0, 0, 0)) is None


def test_a_calibration_of_another_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="7 nodes and 3 levels"):
        suggest(SMALL, PROBABILITIES, calibration(0, 0))
    with pytest.raises(ValueError, match="7 nodes and 3 levels"):
        suggest(SMALL, PROBABILITIES[:6], calibration(0, 0, 0))


X, Y, C, E = ("A", "B", "X"), ("A", "B", "Y"), ("A", "C"), ("D", "E")


@pytest.mark.parametrize(
    ("neighbours", "expected"),
    [
        ([(X, 0.9), (X, 0.9), (E, 0.6)], Suggestion(X, 0.75, 3)),
        ([(X, 0.6), (Y, 0.5), (E, 0.4)], Suggestion(("A", "B"), 1.1 / 1.5, 2)),
        ([(X, 0.5), (Y, 0.5)], Suggestion(("A", "B"), 1.0, 2)),  # exactly a half each: the parent
        ([(X, 0.5), (E, 0.5)], None),
        ([(X, 0.5), (C, 0.3), (E, 0.2)], Suggestion(X, 0.5, 3)),
        ([(("A", "B"), 0.6), (X, 0.4)], Suggestion(("A", "B"), 1.0, 2)),  # who stops early holds back
        ([(X, 0.9), (E, -0.5)], Suggestion(X, 1.0, 3)),
        ([(X, 0.0), (E, -0.5)], None),
        ([], None),
        ([(("A", "Z"), 1.0)], Suggestion(("A",), 1.0, 1)),  # the tree has changed since
        ([(("Z",), 1.0), (X, 0.9)], None),
    ],
)
def test_vote(neighbours: list[tuple[TaxonomyPath, float]], expected: Suggestion | None) -> None:
    result = vote(SMALL, neighbours)
    if result is None or expected is None:
        assert result == expected
    else:
        assert (result.path, result.level) == (expected.path, expected.level)
        assert result.score == pytest.approx(expected.score)
    leaf_or_nothing = result if result and result.path in (X, Y, C, E) else None
    assert vote(LEAFS, neighbours) == leaf_or_nothing


def test_vote_share() -> None:
    neighbours = [(X, 0.6), (Y, 0.2), (E, 0.2)]
    assert vote(SMALL, neighbours, min_share=0.7) == Suggestion(("A", "B"), pytest.approx(0.8), 2)  # type: ignore[arg-type]
    assert vote(SMALL, neighbours, min_share=0.9) is None
    four = [(X, 0.7)] + [(E, 0.7)] * 3  # 0.7 added up three times is a little less than 2.1
    assert vote(SMALL, four, min_share=0.75) == Suggestion(E, pytest.approx(0.75), 2)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(SMALL.paths), st.floats(-1, 1)), max_size=8),
    st.floats(0.05, 1),
    st.sampled_from([SMALL, LEAFS]),
)
def test_votes_are_shares_of_what_was_given(
    neighbours: list[tuple[TaxonomyPath, float]], min_share: float, tree: Tree
) -> None:
    result = vote(tree, neighbours, min_share=min_share)
    if result is None:
        return
    total = sum(max(weight, 0) for _, weight in neighbours)
    weight = sum(max(weight, 0) for path, weight in neighbours if path[: result.level] == result.path)
    assert result.score == pytest.approx(weight / total)
    assert min_share - 1e-6 <= result.score <= 1
    assert not tree.leafs_only or tree.is_leaf[tree.index[result.path]]
