"""Bodies of many small values, which take much more memory than the bytes that were sent."""

from __future__ import annotations

import httpx
import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.web.app import MAX_VALUES, create_app
from tests.backend.web.serving import serving

PARTS = {"lists": b"[],", "objects": b"{},", "nested": b"[[", "numbers": b"12345,", "pairs": b'"a":1,'}


@pytest.mark.parametrize("path", ["/webhook", "/predict", "/setup", "/train"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_a_body_has_at_most_so_many_values(services: Services, path: str, part: bytes) -> None:
    client = create_app(services.settings, services).test_client()
    answer = client.post(path, data=b"[" + part * (MAX_VALUES + 1) + b"0]", content_type="application/json")
    assert answer.status_code == 400
    assert "values; at most 1,000,000 are read." in answer.get_json()["error"]


def test_webhooks_that_go_past_the_application(services: Services) -> None:
    body = b"[" + b"[]," * (MAX_VALUES + 1) + b"0]"
    with serving(services, services.settings) as port:
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(f"http://127.0.0.1:{port}/webhook", content=body, headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "at most 1,000,000" in answer.json()["error"]
