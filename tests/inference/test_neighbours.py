from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from taxonomist.inference import neighbours
from taxonomist.inference.neighbours import nearest, search

RANDOM = np.random.default_rng(0)
MATRIX = (RANDOM.normal(size=(500, 24)) + 2).astype(np.float16)
IDS = [f"image-{i}" for i in range(500)]


@pytest.mark.parametrize("block", [7, 100, 8192])
def test_same_as_scikit_learn(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    queries = RANDOM.normal(size=(9, 24)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=6, metric="cosine").fit(MATRIX.astype(np.float32))
    distances, rows = expected.kneighbors(queries)
    found, similarities = search(queries, MATRIX, 6)
    assert (found == rows).all()
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-5)


@pytest.mark.parametrize("rows", [np.arange(100, 300), np.arange(0, 500, 7), np.array([499, 3, 250])])
def test_only_some_rows(monkeypatch: pytest.MonkeyPatch, rows: NDArray[Any]) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 16)
    query = RANDOM.normal(size=24).astype(np.float32)
    picked = MATRIX[rows].astype(np.float32)
    cosines = picked @ query / np.linalg.norm(picked, axis=1) / np.linalg.norm(query)
    best = rows[np.argsort(-cosines)][:3]
    assert [found.id for found in nearest(query, IDS, MATRIX, 3, rows=rows)] == [f"image-{i}" for i in best]


def test_from_a_memory_map(tmp_path: Path) -> None:
    MATRIX.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", np.float16, "r", shape=MATRIX.shape)
    query = MATRIX[17].astype(np.float32)
    first, second = nearest(query, IDS, mapped, 2)
    assert first.id == "image-17"
    assert first.similarity == pytest.approx(1, abs=1e-6)
    assert second.similarity < first.similarity


def test_excluded_ids_do_not_shorten_the_answer() -> None:
    query = MATRIX[17].astype(np.float32)
    found = nearest(query, IDS, MATRIX, 5, exclude={"image-17"})
    assert len(found) == 5
    assert "image-17" not in [neighbour.id for neighbour in found]


def test_edges() -> None:
    query = np.ones(24, np.float32)
    assert nearest(query, [], MATRIX[:0], 5) == []
    assert nearest(query, IDS, MATRIX, 5, rows=np.array([], np.int64)) == []
    assert len(nearest(query, IDS[:3], MATRIX[:3], 5)) == 3
    assert nearest(np.zeros(24, np.float32), IDS, MATRIX, 1)[0].similarity == 0
    assert nearest(query, IDS, MATRIX, 0) == []
