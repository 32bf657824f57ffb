"""A Label Studio with sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.backend.web.people.sessions import LabelStudio


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    with LabelStudio() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
