"""Embeddings of a study's images and of their augmented views, each computed once while the study runs."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from taxonomist.training.heads.data.label_views import label_views
from taxonomist.training.study.contestants import Embed
from taxonomist.training.study.labelled_images import Images, LabelledImages

_CHUNK = 32  # images, each with its views, that are embedded at a time


class CachedEmbeddings:
    """The embeddings by `embed` of the images of `labelled`, and of `view_count` views of each."""

    def __init__(self, labelled: LabelledImages, embed: Embed, view_count: int) -> None:
        self._labelled, self._embed, self._view_count = labelled, embed, view_count
        self._known: dict[tuple[int, bool], npt.NDArray[np.float32]] = {}  # by position and whether it has views

    def plain(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return embeddings (n, d) of the images at these positions."""
        return np.concatenate(self._get(positions.tolist(), with_views=False))

    def with_views(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return embeddings (rows, d) of the images and of their views, and the image (rows,), 0 to n - 1, of each."""
        embeddings = self._get(positions.tolist(), with_views=self._view_count > 0)
        owners = np.repeat(np.arange(len(embeddings)), [len(rows) for rows in embeddings])
        return np.concatenate(embeddings), owners

    def _get(self, positions: Sequence[int], *, with_views: bool) -> list[npt.NDArray[np.float32]]:
        missing = [position for position in positions if (position, with_views) not in self._known]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            groups = list(images_with_views(self._labelled, chunk, self._view_count if with_views else 0))
            vectors = self._embed(np.concatenate(groups))
            stops = np.cumsum([len(images) for images in groups])[:-1]
            keys = ((position, with_views) for position in chunk)
            self._known.update(zip(keys, np.split(vectors, stops), strict=True))
        return [self._known[position, with_views] for position in positions]


def images_with_views(labelled: LabelledImages, positions: Sequence[int], view_count: int) -> Iterator[Images]:
    """Yield for each position its image and that many augmented views of it: uint8 (1 + views, size, size, 3)."""
    for position in positions:
        image = labelled.image(position)
        # The draw depends on the id only, so every contestant sees the same views.
        seed = zlib.crc32(labelled.ids[position].encode())
        yield np.concatenate([image[None], label_views(image, view_count, seed)])
