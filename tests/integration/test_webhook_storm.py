"""A thousand webhooks at once, and a kill in the middle: none of the answered ones is lost, none counts twice."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxonomist.storage.journal import Journal
from tests.backend_process import BackendProcess

pytestmark = pytest.mark.slow

CLIENTS = 16
LABEL_STUDIO_WAITS_S = 1.0


@pytest.fixture
def webhooks(captures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """1,000 annotations of 1,000 tasks, each as the recorded browser submission."""
    template = next(capture["body"] for capture in captures if capture["capture"] == "12-annotation-created")
    made = []
    for number in range(1, 1001):
        body = copy.deepcopy(template)
        body["annotation"] |= {"id": number, "task": number}
        body["task"] |= {"id": number, "data": {"image": f"/data/upload/1/{number:08x}-img.jpg"}}
        made.append(body)
    return made


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[BackendProcess]:
    with BackendProcess(tmp_path / "home", arguments=("serve", "--no-worker")) as backend:
        yield backend


def post(client: httpx.Client, backend: BackendProcess, body: dict[str, Any]) -> bool:
    """Send a webhook as Label Studio does: one try, one second. Return whether the answer was good."""
    try:
        return client.post(f"{backend.url}/webhook", json=body, timeout=LABEL_STUDIO_WAITS_S).is_success
    except httpx.TransportError:
        return False


def storm(backend: BackendProcess, bodies: list[dict[str, Any]]) -> list[bool]:
    with httpx.Client(limits=httpx.Limits(max_connections=CLIENTS)) as client, ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda body: post(client, backend, body), bodies))


def journal_ids(home: Path) -> list[int]:
    with Journal(home / "journal.sqlite") as journal:
        journal.fold()
        return sorted(int(record.annotation_id) for record in journal.annotations("1"))


def test_every_webhook_is_answered_in_time_and_kept(backend: BackendProcess, webhooks: list[dict[str, Any]]) -> None:
    assert storm(backend, webhooks) == [True] * len(webhooks), backend.said()
    assert journal_ids(backend.home) == list(range(1, 1001))


def test_kill_in_the_middle(backend: BackendProcess, webhooks: list[dict[str, Any]]) -> None:
    answered: set[int] = set()
    enough = threading.Event()

    def send(body: dict[str, Any]) -> None:
        if post(client, backend, body):
            answered.add(body["annotation"]["id"])
            if len(answered) >= 300:
                enough.set()

    with httpx.Client(limits=httpx.Limits(max_connections=CLIENTS)) as client, ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(send, body) for body in webhooks]
        assert enough.wait(60), backend.said()
        backend.kill()
        for future in futures:
            future.result()
    assert 300 <= len(answered) < len(webhooks)
    kept = journal_ids(backend.home)
    assert answered <= set(kept)
    backend.start()
    assert all(storm(backend, webhooks))  # the pass over the API brings all of them again
    assert journal_ids(backend.home) == list(range(1, 1001))
