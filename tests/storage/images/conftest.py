"""Fixtures for tests that read images over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taxonomist.storage.images.http import HttpImages


@pytest.fixture
def open_images() -> Iterator[Callable[..., HttpImages]]:
    """Opens images of allowed hosts; they are closed after the test."""
    opened: list[HttpImages] = []

    def make(*allowed: str, max_bytes: int = 10_000, timeout_s: float = 5.0) -> HttpImages:
        opened.append(HttpImages(allowed, max_bytes, timeout_s))
        return opened[-1]

    yield make
    for images in opened:
        images.close()
