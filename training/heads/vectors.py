"""Fill the store of embeddings with what a training needs: labelled images, and the augmented views of some of them."""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.inference.embedder import Embedder
from taxonomist.inference.image_decoding import PreparedImage
from taxonomist.storage.embeddings import Embeddings
from taxonomist.taxonomy.errors import ImageDecodingError, ImageError
from taxonomist.training.heads.label_views import views

ReadPicture = Callable[[str], PreparedImage]
"""From an image id to its prepared picture; called from several threads. Raises ImageError or ImageDecodingError."""

_CHUNK = 32  # pictures read at a time; what was embedded is kept after each chunk
_READERS = 4


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


def fill(
    ids: Sequence[str],
    view_counts: Sequence[int],
    embeddings: Embeddings,
    read_picture: ReadPicture | None,
    embedder: Callable[[], Embedder],
    progress: Callable[[float], None],
) -> dict[str, str]:
    """Embed the images and as many augmented views of each as asked for, unless they are in the store.

    Returns the reason for each image that has no embedding afterwards. An image that is embedded, but whose picture
    cannot be read any more, goes without views. `embedder` is called only if there is something to embed.
    """
    wanted = [[id, *(view_id(id, n + 1) for n in range(count))] for id, count in zip(ids, view_counts, strict=True)]
    known = np.split(_known(embeddings, [id for names in wanted for id in names]), np.cumsum([len(w) for w in wanted]))
    missing = [(id, count) for id, count, have in zip(ids, view_counts, known, strict=False) if not have.all()]
    reasons: dict[str, str] = {}
    if missing and read_picture is None:
        missing, reasons = [], dict.fromkeys((id for id, _ in missing), "It has no embedding.")
    if missing and read_picture is not None:
        ready = embedder()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read-picture") as readers:
            for start in range(0, len(missing), _CHUNK):
                progress(start / len(missing))
                chunk = missing[start : start + _CHUNK]
                names: list[str] = []
                vectors: list[npt.NDArray[np.float32]] = []
                for (id, count), shown in zip(chunk, readers.map(_attempt(read_picture), chunk), strict=True):
                    if isinstance(shown, str):
                        reasons[id] = shown
                        continue
                    names += [id, *(view_id(id, n + 1) for n in range(count))]
                    vectors.append(ready.embed(shown))
                if names:
                    embeddings.append(names, np.concatenate(vectors))
    progress(1.0)
    have = dict(zip(reasons, _known(embeddings, list(reasons)), strict=True))
    return {id: reason for id, reason in reasons.items() if not have[id]}


def rows_of(ids: Sequence[str], view_counts: Sequence[int], embeddings: Embeddings) -> Rows:
    """What the store has of the images and their views; each image must have its own embedding there."""
    names = [[id, *(view_id(id, n + 1) for n in range(count))] for id, count in zip(ids, view_counts, strict=True)]
    owners = np.repeat(np.arange(len(ids)), [len(own) for own in names])
    found, vectors = embeddings.get([name for own in names for name in own])
    return Rows(vectors[found], owners[found])


def _known(embeddings: Embeddings, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    return embeddings.get(ids)[0]


def _attempt(read_picture: ReadPicture) -> Callable[[tuple[str, int]], npt.NDArray[np.uint8] | str]:
    """Read an image and make its views, (1 + count, size, size, 3); the reason where it cannot be read."""

    def read(wanted: tuple[str, int]) -> npt.NDArray[np.uint8] | str:
        id, count = wanted
        try:
            picture = read_picture(id)
        except (ImageError, ImageDecodingError) as error:
            return str(error)
        # The draw depends on the id only, so that a view always is what its id says.
        return np.concatenate([picture[None], views(picture, count, zlib.crc32(id.encode()))])

    return read
