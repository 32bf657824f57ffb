"""Embeddings of the study's pictures and of their augmented views, each computed once while the study runs."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from taxonomist.training.heads.label_views import views
from taxonomist.training.study.data import Embed, Labelled, Pictures

_CHUNK = 32  # pictures, each with its views, embedded at a time


class Vectors:
    """What `embed` makes of the pictures of `labelled`."""

    def __init__(self, labelled: Labelled, embed: Embed, view_count: int) -> None:
        self._labelled, self._embed, self._views = labelled, embed, view_count
        self._known: dict[tuple[int, bool], npt.NDArray[np.float32]] = {}

    def plain(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of the pictures at these positions."""
        return np.concatenate(self._get(positions.tolist(), with_views=False))

    def with_views(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Embeddings (rows, d) of the pictures and of their views, and the picture (rows,), 0 to n - 1, of each."""
        found = self._get(positions.tolist(), with_views=self._views > 0)
        return np.concatenate(found), np.repeat(np.arange(len(found)), [len(rows) for rows in found])

    def _get(self, positions: Sequence[int], *, with_views: bool) -> list[npt.NDArray[np.float32]]:
        missing = [position for position in positions if (position, with_views) not in self._known]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            shown = list(shown_pictures(self._labelled, chunk, self._views if with_views else 0))
            vectors = self._embed(np.concatenate(shown))
            stops = np.cumsum([len(pictures) for pictures in shown])[:-1]
            self._known.update(zip(((p, with_views) for p in chunk), np.split(vectors, stops), strict=True))
        return [self._known[position, with_views] for position in positions]


def shown_pictures(labelled: Labelled, positions: Sequence[int], view_count: int) -> Iterator[Pictures]:
    """For each position its picture and that many augmented views of it: uint8 (1 + views, size, size, 3)."""
    for position in positions:
        picture = labelled.picture(position)
        # The draw depends on the id only, so every contestant sees the same views.
        seed = zlib.crc32(labelled.ids[position].encode())
        yield np.concatenate([picture[None], views(picture, view_count, seed)])
