"""The order in which images are to be labelled, and which of them are in the share that is drawn at random."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.labelling_order.typical_images import typical_images

__all__ = ["is_random_draw", "labelling_order"]

_FIRST = 400  # labels up to which typical images come first
_ROUND = 100  # typical images that are looked for at once: as many clusters as labels then


def is_random_draw(project: str, image: str, share: float) -> bool:
    """Return whether an image is in the random share of a project. Its content has no influence, only its id.

    The images for which this is true are a random sample of all images, and stay one while more are added.
    """
    digest = hashlib.sha256(f"{project}\n{image}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def labelling_order(
    x: npt.NDArray[np.float32],
    products: npt.NDArray[np.int64],
    labelled: npt.NDArray[np.bool_],
    at_random: npt.NDArray[np.bool_],
    *,
    first: int = _FIRST,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """Return the indices of the images without a label, in the order in which they are to be labelled.

    `x` (n, d) has the features of all images, `products` (n,) the number of each image's product. Up to `first` labels
    the next 100 images are the most typical ones of their clusters (see `typical_images`); then come images of the
    products of which the fewest images are labelled. Images `at_random` (n,) come in random order, and at random places
    of the whole order: whenever labelling stops, the labelled ones among them are a random sample of them. Raises
    ValueError when the shapes differ.
    """
    if not len(x) == len(products) == len(labelled) == len(at_random):
        raise ValueError(f"{len(x)} images, {len(products)} products, {len(labelled)} and {len(at_random)} marks")
    random = np.random.default_rng(seed)
    chosen = np.flatnonzero(~labelled & ~at_random)
    wanted = min(first - int(labelled.sum()), _ROUND)
    typical = typical_images(x, labelled, wanted, seed=seed, among=~at_random) if wanted > 0 else chosen[:0]
    seen = labelled.copy()
    seen[typical] = True
    rest = _fewest_of_product_first(np.setdiff1d(chosen, typical), products, seen, random)
    drawn = random.permutation(np.flatnonzero(~labelled & at_random))
    order = np.empty(len(chosen) + len(drawn), np.int64)
    is_drawn = random.permutation(len(order)) < len(drawn)
    order[is_drawn] = drawn
    order[~is_drawn] = np.concatenate([typical, rest])
    return order


def _fewest_of_product_first(
    rows: npt.NDArray[np.int64],
    products: npt.NDArray[np.int64],
    seen: npt.NDArray[np.bool_],
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return the rows: first one of each product without a `seen` image, then of those with one, and so on."""
    rows = random.permutation(rows)
    if not len(rows):
        return rows
    known = np.bincount(products[seen], minlength=int(products.max()) + 1)
    by_product = np.argsort(products[rows], kind="stable")
    owners = products[rows][by_product]
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    turn = np.empty(len(rows), np.int64)
    turn[by_product] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    ordered: npt.NDArray[np.int64] = rows[np.argsort(known[products[rows]] + turn, kind="stable")]
    return ordered
