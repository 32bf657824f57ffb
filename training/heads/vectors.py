"""Fill the store of embeddings with what a training needs: labelled images, and the augmented views of some of them."""

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
from taxonomist.training.heads.label_views import label_views

ReadImage = Callable[[str], PreparedImage]
"""Returns the prepared image of an id; called from several threads. Raises `ImageError` or `ImageDecodingError`."""


def view_id(id: str, number: int) -> str:
    """Under which an augmented view of an image, from 1, is kept beside it. Look-alikes leave such ids out."""
    return f"{id}#{number}"


def is_view(id: str) -> bool:
    """Whether an id of the store is that of an augmented view."""
    return "#" in id


@dataclass(frozen=True)
class Rows:
    """Embeddings `vectors` (rows, d) of some images; `owners` (rows,), ascending, says which image each row is of."""

    vectors: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Shown:
    """The pixels (k, size, size, 3) of an image and its views that have to be embedded."""

    pixels: npt.NDArray[np.uint8]


def fill(
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
    have = dict(zip(reasons, _known(embeddings, list(reasons)), strict=True))
    return {id: reason for id, reason in reasons.items() if not have[id]}


def _missing(ids: Sequence[str], view_counts: Sequence[int], embeddings: Embeddings) -> dict[str, list[int]]:
    """Return, by id, which of an image (0) and its views (from 1) have no embedding."""
    wanted = [(id, number) for id, count in zip(ids, view_counts, strict=True) for number in range(count + 1)]
    known = _known(embeddings, [_name(id, number) for id, number in wanted])
    missing: dict[str, list[int]] = {}
    for (id, number), found in zip(wanted, known, strict=True):
        if not found:
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

    def load(id: str) -> _Shown:
        image, numbers = read_image(id), missing[id]
        # The draw depends on the id only, so that a view id always stands for the same view.
        shown = np.concatenate([image[None], label_views(image, max(numbers), zlib.crc32(id.encode()))])
        return _Shown(shown[list(numbers)])

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


def rows_of(ids: Sequence[str], view_counts: Sequence[int], embeddings: Embeddings) -> Rows:
    """What the store has of the images and their views; each image must have its own embedding there."""
    names = [[id, *(view_id(id, n + 1) for n in range(count))] for id, count in zip(ids, view_counts, strict=True)]
    owners = np.repeat(np.arange(len(ids)), [len(own) for own in names])
    found, vectors = embeddings.get([name for own in names for name in own])
    return Rows(vectors[found], owners[found])


def _known(embeddings: Embeddings, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    return embeddings.get(ids)[0]
