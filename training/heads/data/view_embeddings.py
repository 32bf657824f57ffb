"""Embeddings of labelled images and of their augmented views, which are stored under ids of their own."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import Embedder
from taxonomist.inference.image_decoding import PreparedImage
from taxonomist.inference.pipeline import EMBEDDING, ImageFailure, ImageResult, in_batches, process_images
from taxonomist.storage.embeddings import Embeddings
from taxonomist.training.heads.data.label_views import label_views

ReadImage = Callable[[str], PreparedImage]
"""Returns the prepared image of an id; called from several threads. Raises `ImageError` or `ImageDecodingError`."""


def view_id(id: str, number: int) -> str:
    """Return the id of an augmented view of an image; numbers start at 1. Look-alikes omit such ids."""
    return f"{id}#{number}"


@dataclass(frozen=True)
class EmbeddingRows:
    """Embeddings `vectors` (rows, d) of images and views; `owners` (rows,), ascending, is the image of each row."""

    vectors: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Views:
    """The pixels (k, size, size, 3) of an image and its views that have to be embedded."""

    pixels: npt.NDArray[np.uint8]


def fill_embeddings(
    ids: Sequence[str],
    view_counts: Sequence[int],
    embeddings: Embeddings,
    read_image: ReadImage | None,
    embedder: Callable[[], Embedder],
    progress: Callable[[float], None],
) -> dict[str, str]:
    """Embed the images and their augmented views (`view_counts`) that the store lacks; each image is read once.

    Return the reason for each image that has no embedding afterwards. An image that has an embedding but can no longer
    be read gets no views. `embedder` is called only if there is something to embed.
    """
    missing = _missing(ids, view_counts, embeddings)
    reasons: dict[str, str] = {}
    if missing and read_image is None:
        reasons = dict.fromkeys(missing, "It has no embedding.")
    elif missing and read_image is not None:
        reasons = _embed_missing(missing, embeddings, read_image, embedder(), progress)
    progress(1.0)
    is_known = dict(zip(reasons, _known(embeddings, list(reasons)), strict=True))
    return {id: reason for id, reason in reasons.items() if not is_known[id]}


def _missing(ids: Sequence[str], view_counts: Sequence[int], embeddings: Embeddings) -> dict[str, list[int]]:
    """Return, by id, which of an image (0) and its views (from 1) have no embedding."""
    wanted = [(id, number) for id, count in zip(ids, view_counts, strict=True) for number in range(count + 1)]
    known = _known(embeddings, [_name(id, number) for id, number in wanted])
    missing: dict[str, list[int]] = {}
    for (id, number), is_known in zip(wanted, known, strict=True):
        if not is_known:
            missing.setdefault(id, []).append(number)
    return missing


def _embed_missing(
    missing: Mapping[str, Sequence[int]],
    embeddings: Embeddings,
    read_image: ReadImage,
    embedder: Embedder,
    progress: Callable[[float], None],
) -> dict[str, str]:
    """Embed the missing images and views and keep them batch by batch; return the reasons for unreadable images."""

    def load(id: str) -> _Views:
        image, numbers = read_image(id), missing[id]
        # The draw depends on the id only, so that a view id always stands for the same view.
        pixels = np.concatenate([image[None], label_views(image, max(numbers), zlib.crc32(id.encode()))])
        return _Views(pixels[list(numbers)])

    reasons: dict[str, str] = {}
    done = 0
    progress(0.0)
    with closing(process_images(missing, load, embedder)) as outcomes:
        for batch in in_batches(outcomes, EMBEDDING.batch):
            reasons |= {outcome.source: str(outcome.error) for outcome in batch if isinstance(outcome, ImageFailure)}
            results = [outcome for outcome in batch if isinstance(outcome, ImageResult)]
            if results:
                names = [_name(result.source, number) for result in results for number in missing[result.source]]
                embeddings.append(names, np.concatenate([result.vectors for result in results]))
            done += len(batch)
            progress(done / len(missing))
    return reasons


def _name(id: str, number: int) -> str:
    return view_id(id, number) if number else id


def read_embeddings(ids: Sequence[str], view_counts: Sequence[int], embeddings: Embeddings) -> EmbeddingRows:
    """Return the embeddings of the images and of those of their views that the store has.

    The store must have the embedding of each image itself.
    """
    names = [_name(id, number) for id, count in zip(ids, view_counts, strict=True) for number in range(count + 1)]
    owners = np.repeat(np.arange(len(ids)), np.array(view_counts, np.int64) + 1)
    found, vectors = embeddings.get(names)
    return EmbeddingRows(vectors[found], owners[found])


def _known(embeddings: Embeddings, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    return embeddings.get(ids)[0]
