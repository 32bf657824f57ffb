import numpy as np
import pytest

from taxonomist.training.clear_gain import is_clear_gain, mean_by_product


def test_each_product_counts_once() -> None:
    assert mean_by_product(np.array([1.0, 3.0, 5.0]), ["b", "b", "a"]).tolist() == [5.0, 2.0]


@pytest.mark.parametrize(
    ("gains", "is_clear"),
    [([0.1] * 2, True), ([0.1], False), ([0.0, 0.0], False), ([1.0, -0.9, 0.8, -0.8], False), ([1.0, 0.9, -0.1], True)],
)
def test_a_gain_is_clear_if_products_agree_on_it(gains: list[float], is_clear: bool) -> None:
    assert is_clear_gain(np.array(gains)) == is_clear


def test_without_a_gain_one_in_ten_is_called_clear() -> None:
    random = np.random.default_rng(0)
    found = [is_clear_gain(random.normal(size=50)) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.1, abs=0.02)
