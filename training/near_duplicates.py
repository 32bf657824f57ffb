"""Near-duplicates among images whose product is not known: they count as one product."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from taxonomist.storage.embeddings import Embeddings

log = logging.getLogger(__name__)

_BLOCK = 1 << 24  # numbers in memory at once, such as the cosines of pairs: 64 MB
_CLOSEST = 0.02
"""The largest squared distance of two near-duplicates, relative to the smaller of their squared lengths after the mean
was subtracted; their cosine is then 0.9899 or more. Measured with the starter on 9,164 rendered images of 766 products:
16 in 1,000 pairs of one product are near-duplicates, and 18 in a million of different ones. So they are copies and
neighbouring views, not whole products."""
_SMALLEST_COSINE = 0.9899
"""Less than the cosine of any near-duplicates, √(1 - _CLOSEST): pairs below it need no second look."""


def near_duplicates_of_unknown(
    products: Mapping[str, str | None], embeddings: Embeddings, on_step: Callable[[float], None] = lambda _: None
) -> dict[str, str]:
    """Return `near_duplicates` of the images whose product is not known, as far as they are embedded.

    `products` has the product of each image by id, None or "" where it is not known.
    """
    unknown = [id for id, product in products.items() if not product]
    found, vectors = embeddings.get(unknown)
    return near_duplicates(
        [id for id, is_found in zip(unknown, found, strict=True) if is_found], vectors[found], on_step
    )


def near_duplicates(
    ids: Sequence[str], vectors: npt.NDArray[np.float32], on_step: Callable[[float], None] = lambda _: None
) -> dict[str, str]:
    """Return for each image that has near-duplicates the id that stands for all of them.

    `vectors` (n, d) are the embeddings of `ids`. Images that are joined by a chain of near-duplicates belong together.
    Takes time in proportion to n², and besides two copies of the vectors a bounded amount of memory; `on_step` is
    called with the share that is done.
    """
    centred = vectors - vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors
    squares = np.einsum("ij,ij->i", centred, centred)
    units = centred / np.sqrt(np.where(squares > 0, squares, 1))[:, None]
    units[squares == 0, :1] = 1  # all images without a direction are compared
    root = np.arange(len(ids))  # the first image of each image's group
    block = max(1, _BLOCK // max(1, len(ids)))
    rows_at_once = max(1, _BLOCK // max(1, vectors.shape[1]))  # whose embeddings are copied
    for begin in range(0, len(ids), block):
        on_step(1 - (1 - begin / len(ids)) ** 2)
        alike = units[begin : begin + block] @ units[begin:].T >= _SMALLEST_COSINE
        for offset in np.flatnonzero(np.count_nonzero(alike, axis=1) > 1):
            row = begin + offset
            others = begin + offset + 1 + np.flatnonzero(alike[offset, offset + 1 :])
            others = others[root[others] != root[row]]
            for start in range(0, len(others), rows_at_once):
                some = others[start : start + rows_at_once]
                distances = squares[row] + squares[some] - 2 * centred[some] @ centred[row]
                _join(root, row, root[some[distances <= _CLOSEST * np.minimum(squares[row], squares[some])]])
    sizes = np.bincount(root, minlength=len(ids))
    if sizes.max(initial=0) > 1:
        groups = sizes[sizes > 1]
        log.info(
            "%d images are near-duplicates of others, in %d groups; the largest has %d images",
            groups.sum(),
            len(groups),
            groups.max(),
        )
    return {id: ids[root[row]] for row, id in enumerate(ids) if sizes[root[row]] > 1}


def _join(root: npt.NDArray[np.intp], row: int, others: npt.NDArray[np.intp]) -> None:
    """Join the group of a row with those of the roots `others`, which may repeat: copies of one image repeat one root.

    All rows of the groups get the new root at once, so there is no step for each pair.
    """
    others = others[others != root[row]]
    if not len(others):
        return
    is_joined = np.zeros(len(root), dtype=np.bool_)
    is_joined[others] = is_joined[root[row]] = True
    root[is_joined[root]] = np.flatnonzero(is_joined)[0]
