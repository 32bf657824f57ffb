import logging
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from taxonomist.training import near_duplicates as module
from taxonomist.training.near_duplicates import near_distance, near_duplicates


def test_copies_are_found_and_other_images_are_not() -> None:
    random = np.random.default_rng(0)
    images = random.normal(3, 1, (40, 32)).astype(np.float32)
    copies = images[:10] + random.normal(0, 0.03, (10, 32)).astype(np.float32)
    ids = [f"i{n}" for n in range(40)] + [f"copy of i{n}" for n in range(10)]
    near = near_duplicates(ids, np.concatenate([images, copies]))
    assert near == {f"{kind}i{n}": f"i{n}" for n in range(10) for kind in ("", "copy of ")}


def test_a_chain_is_one_product() -> None:
    steps = np.linspace(0, 0.5, 11)
    circle = np.stack([np.cos(steps), np.sin(steps)], axis=1)
    vectors = np.concatenate([circle, -circle]).astype(np.float32)  # their mean is zero
    near = near_duplicates([str(n) for n in range(22)], vectors)
    assert set(near.values()) == {"0", "11"}
    assert len(near) == 22


def test_none_one_and_equal_images() -> None:
    assert near_duplicates([], np.empty((0, 4), np.float32)) == {}
    assert near_duplicates(["a"], np.ones((1, 4), np.float32)) == {}
    assert near_duplicates(["a", "b"], np.ones((2, 4), np.float32)) == {"a": "a", "b": "a"}


def test_thousands_of_copies_of_one_image_are_joined(caplog: pytest.LogCaptureFixture) -> None:
    """A step of Python for each of the 4.5 million pairs takes more than 10 s."""
    random = np.random.default_rng(0)
    vectors = np.concatenate([np.ones((3000, 8)), random.normal(0, 9, (2, 8)).repeat(2, axis=0)]).astype(np.float32)
    with caplog.at_level(logging.INFO):
        near = near_duplicates([str(row) for row in range(3004)], vectors)
    assert set(near.values()) == {"0", "3000", "3002"}
    assert "3004 images are near-duplicates of others, in 3 groups; the largest has 3000" in caplog.text


def test_random_groups_are_those_of_a_graph() -> None:
    """Chains in any order of the images join as the connected components of the pairs that are close do."""
    random = np.random.default_rng(1)
    angles = random.permutation(np.concatenate([np.arange(0, 0.8, 0.08), np.arange(2, 3, 0.09), [4, 5, 5.05]]))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors = np.concatenate([vectors, -vectors]).astype(np.float32)  # their mean is zero
    cosines = vectors @ vectors.T
    groups = [{row} for row in range(len(vectors))]
    for row, other in np.argwhere(cosines >= 0.99):
        joined = groups[row] | groups[other]
        for member in joined:
            groups[member] = joined
    expected = {str(row): str(min(group)) for row, group in enumerate(groups) if len(group) > 1}
    assert near_duplicates([str(row) for row in range(len(vectors))], vectors) == expected


def test_a_long_comparison_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that shows none for an hour is taken for a hung one, and its worker is replaced."""
    monkeypatch.setattr(module, "_BLOCK", 1000)
    shares: list[float] = []
    near_duplicates([str(n) for n in range(100)], np.eye(100, dtype=np.float32), on_step=shares.append)
    assert len(shares) == 10  # ten rows at a time
    assert shares == sorted(shares)
    assert (shares[0], shares[5]) == (0, 0.75)


@pytest.mark.parametrize("kind", ["copies", "others"])
def test_the_memory_beside_the_vectors_is_bounded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The largest array is a block, however many images there are and however many of them are alike."""
    monkeypatch.setattr(module, "_BLOCK", 1 << 14)
    n, d = 1000, 512
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (n, d)).astype(np.float32)
    if kind == "copies":
        vectors[: n - 2] = vectors[0]
    near_duplicates(["a", "b"], vectors[:2])  # what numpy loads at its first use
    ids = [str(row) for row in range(n)]
    tracemalloc.start()
    try:
        near = near_duplicates(ids, vectors)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(near) == (n - 2 if kind == "copies" else 0)
    copies, block, columns = 2 * vectors.nbytes, 4 << 14, 8 * n
    assert peak < copies + 4 * block + 16 * columns


def test_copies_are_within_the_distance_that_was_measured() -> None:
    """A space in which a copy is farther away has a larger distance, so that copies are found there, too."""
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (60, 4, 4, 3)).repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)

    def embed(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        cells: npt.NDArray[np.float32] = shown.reshape(len(shown), 4, 16, 4, 16, 3).mean((2, 4), np.float32)
        return cells.reshape(len(shown), -1)

    def noisy(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        vectors = embed(shown)
        vectors += random.normal(0, 13, vectors.shape).astype(np.float32)
        return vectors

    near, far = near_distance(embed, images), near_distance(noisy, images)
    assert near is not None
    assert far is not None
    assert 0.01 <= near < 0.05 < far < 0.2
    ids = [str(n) for n in range(120)]
    vectors = np.concatenate([noisy(images), noisy(images)])
    assert len(near_duplicates(ids, vectors, near)) == 0
    assert len(near_duplicates(ids, vectors, far)) > 100
    assert near_distance(embed, images[:40]) is None
