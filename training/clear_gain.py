"""Whether a gain on labelled images is more than chance would explain. Images of one product gain together."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
_ERRORS = 1.28  # standard errors by which a gain is above zero: a confidence of 90 %


def mean_by_product(values: npt.NDArray[np.floating], products: Sequence[Hashable] | npt.NDArray[np.str_]) -> Double:
    """Return the mean of the values (n,) of the images of each product, in the order of their names."""
    _, owners = np.unique(np.asarray(products, dtype=object).astype(str), return_inverse=True)
    means: Double = np.bincount(owners, values) / np.bincount(owners)
    return means


def is_clear_gain(gains: Double) -> bool:
    """Return whether the gains (products,) are above zero on average, by more than chance would explain."""
    return len(gains) > 1 and bool(gains.mean() > _ERRORS * gains.std(ddof=1) / np.sqrt(len(gains)))
