"""Near-duplicates among images whose product is not known: they count as one product."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry.manifests import NEAR_DISTANCE

log = logging.getLogger(__name__)

_BLOCK = 1 << 24  # numbers in memory at once, such as the cosines of pairs: 64 MB
_FEWEST, _LEAST, _MOST = 50, 0.01, 0.2
_WITHIN = 0.95  # of the copies


def near_distance(
    embed: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], images: npt.NDArray[np.uint8]
) -> float | None:
    """Return the distance up to which two images count as near-duplicates in the space of a backbone.

    It is the largest squared distance, relative to the smaller of the squared lengths after the mean was subtracted,
    of 95 % of the copies of some `images` (n, size, size, 3): compressed, smaller, brighter, or without their edge. It
    lies between 0.01 and 0.2. Return None for fewer than 50 images. `embed` is that of an `Embedder`.
    """
    if len(images) < _FEWEST:
        return None
    vectors = embed(images)
    mean = vectors.mean(axis=0)
    distances = []
    for change in (_compressed, _smaller, _brighter, _without_edge):
        copies = embed(np.stack([change(image) for image in images])) - mean
        lengths = np.minimum(np.sum((vectors - mean) ** 2, axis=1), np.sum(copies**2, axis=1))
        distances.append(
            np.sum((vectors - mean - copies) ** 2, axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
        )
    return round(float(np.clip(np.quantile(np.concatenate(distances), _WITHIN), _LEAST, _MOST)), 4)


def _compressed(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    with io.BytesIO() as buffer:
        Image.fromarray(image).save(buffer, "JPEG", quality=75)
        return np.asarray(Image.open(buffer))


def _smaller(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    size = len(image)
    small = Image.fromarray(image).resize((size * 3 // 4, size * 3 // 4), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def _brighter(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.minimum(image, 255 - 8) + np.uint8(8)


def _without_edge(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    size, edge = len(image), max(1, len(image) // 50)
    inner = Image.fromarray(image).crop((edge, edge, size - edge, size - edge))
    return np.asarray(inner.resize((size, size), Image.Resampling.BICUBIC))


def near_duplicates_of_unknown(
    products: Mapping[str, str | None],
    embeddings: Embeddings,
    closest: float,
    on_step: Callable[[float], None] = lambda _: None,
) -> dict[str, str]:
    """Return `near_duplicates` of the images whose product is not known, as far as they are embedded.

    `products` has the product of each image by id, None or "" where it is not known; `closest` is the backbone's
    `near_distance`.
    """
    unknown = [id for id, product in products.items() if not product]
    found, vectors = embeddings.get(unknown)
    return near_duplicates(
        [id for id, is_found in zip(unknown, found, strict=True) if is_found], vectors[found], closest, on_step
    )


def near_duplicates(
    ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    closest: float = NEAR_DISTANCE,
    on_step: Callable[[float], None] = lambda _: None,
) -> dict[str, str]:
    """Return for each image that has near-duplicates the id that stands for all of them.

    `vectors` (n, d) are the embeddings of `ids`. Near-duplicates have at most the squared distance `closest`, relative
    to the smaller of their squared lengths after the mean was subtracted. Images that are joined by a chain of
    near-duplicates belong together. Takes time in proportion to n², and besides two copies of the vectors a bounded
    amount of memory; `on_step` is called with the share that is done.
    """
    centred = vectors - vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors
    squares = np.einsum("ij,ij->i", centred, centred)
    units = centred / np.sqrt(np.where(squares > 0, squares, 1))[:, None]
    units[squares == 0, :1] = 1  # all images without a direction are compared
    smallest_cosine = np.float32(np.sqrt(1 - closest) - 1e-4)  # pairs below it need no second look
    root = np.arange(len(ids))  # the first image of each image's group
    block = max(1, _BLOCK // max(1, len(ids)))
    rows_at_once = max(1, _BLOCK // max(1, vectors.shape[1]))  # whose embeddings are copied
    for begin in range(0, len(ids), block):
        on_step(1 - (1 - begin / len(ids)) ** 2)
        alike = units[begin : begin + block] @ units[begin:].T >= smallest_cosine
        for offset in np.flatnonzero(np.count_nonzero(alike, axis=1) > 1):
            row = begin + offset
            others = begin + offset + 1 + np.flatnonzero(alike[offset, offset + 1 :])
            others = others[root[others] != root[row]]
            for start in range(0, len(others), rows_at_once):
                some = others[start : start + rows_at_once]
                distances = squares[row] + squares[some] - 2 * centred[some] @ centred[row]
                _join(root, row, root[some[distances <= closest * np.minimum(squares[row], squares[some])]])
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
