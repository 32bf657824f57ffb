from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.special import log_softmax

from taxonomist.taxonomy.path_probabilities import greedy_path, greedy_paths, group_log_softmax, path_log_probabilities
from taxonomist.taxonomy.tree import Tree

from .conftest import SMALL

LOGITS = hnp.arrays(
    np.float64, st.tuples(st.integers(0, 4), st.just(len(SMALL))), elements=st.floats(-1e4, 1e4, width=32)
)


def test_by_hand(small: Tree) -> None:
    # odds 3 : 1 at level 1, 1 : 1 below A, 4 : 1 below B, an only child below D
    logits = np.log([[3.0, 1, 4, 1, 1, 1, 7]])
    assert np.exp(group_log_softmax(logits, small))[0] == pytest.approx([3 / 4, 1 / 2, 4 / 5, 1 / 5, 1 / 2, 1 / 4, 1])
    paths = np.exp(path_log_probabilities(logits, small))[0]
    assert paths == pytest.approx([0.75, 0.375, 0.3, 0.075, 0.375, 0.25, 0.25])
    assert greedy_path(small, paths) == [0, 1, 2]


@given(LOGITS)
def test_greedy_paths_are_those_of_each_row(logits: NDArray[Any]) -> None:
    found = [[node for node in path if node >= 0] for path in greedy_paths(SMALL, logits).tolist()]
    assert found == [greedy_path(SMALL, row) for row in logits]


@given(LOGITS)
def test_each_group_is_a_softmax(logits: NDArray[Any]) -> None:
    result = group_log_softmax(logits, SMALL)
    for group in SMALL.groups:
        np.testing.assert_allclose(result[:, group], log_softmax(logits[:, group], axis=1), rtol=1e-9, atol=1e-9)


@given(LOGITS)
def test_children_share_the_probability_of_their_parent(logits: NDArray[Any]) -> None:
    paths = np.exp(path_log_probabilities(logits, SMALL))
    for group in SMALL.groups:
        parent = SMALL.parents[group[0]]
        above = paths[:, parent] if parent >= 0 else np.ones(len(paths))
        np.testing.assert_allclose(paths[:, group].sum(axis=1), above, atol=1e-9)


def test_the_precision_of_the_input_is_kept(small: Tree) -> None:
    for given_type, expected in ((np.float64, np.float64), (np.float32, np.float32), (np.float16, np.float32)):
        logits = np.ones((2, 7), dtype=given_type)
        assert path_log_probabilities(logits, small).dtype == expected
        assert (logits == 1).all()  # the input is not written to


@pytest.mark.parametrize("shape", [(7,), (2, 6), (1, 2, 7)])
def test_wrong_shapes(small: Tree, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(n, 7\)"):
        path_log_probabilities(np.zeros(shape), small)
