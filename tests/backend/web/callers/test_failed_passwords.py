"""Callers that try passwords are slowed down, and nobody else, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.backend.web.callers import failed_passwords
from taxonomist.backend.web.callers.caller import Caller
from taxonomist.backend.web.callers.failed_passwords import (
    FREE,
    LONGEST_DELAY_S,
    MOST_CALLERS,
    MOST_ON_TRIAL,
    FailedPasswords,
)
from tests.backend.web.serving import serving
from tests.small_world import CONFIG
from tests.waiting import eventually

SETUP = {"project": "7.1795531934", "schema": CONFIG}


class Delays:
    """In place of `asyncio.sleep`: delays that last until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        while not self.released.is_set():
            await asyncio.sleep(0.01)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Delays:
    delays = Delays()
    monkeypatch.setattr(failed_passwords, "sleep", delays.sleep)
    return delays


@pytest.fixture
def port(services: Services) -> Iterator[int]:
    settings = services.settings.model_copy(update={"password": SecretStr("right")})
    with serving(Services(settings), settings) as port:
        yield port


def attempt(port: int, password: str, caller: str = "127.0.0.1") -> int:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=caller), timeout=30) as client:
        return client.post(f"http://127.0.0.1:{port}/setup", json=SETUP, auth=("taxonomist", password)).status_code


def test_who_tries_passwords_is_slowed_down_and_nobody_else(port: int, delays: Delays) -> None:
    assert [attempt(port, f"first {number}") for number in range(FREE)] == [401] * FREE
    assert delays.asked == []
    with ThreadPoolExecutor(50) as clients:
        try:
            tried = [clients.submit(attempt, port, f"p{number}") for number in range(MOST_ON_TRIAL)]
            eventually("an answer is delayed", lambda: len(delays.asked) == MOST_ON_TRIAL)
            assert attempt(port, "one more") == 429  # and it is not compared
            tried += [clients.submit(attempt, port, "p0") for _ in range(30)]  # tells its sender nothing new
            eventually("an answer is delayed", lambda: len(delays.asked) == MOST_ON_TRIAL + 30)
            assert attempt(port, "right", "127.0.0.2") == 200
            assert attempt(port, "wrong", "127.0.0.2") == 401
            assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            unknown = httpx.post(f"http://127.0.0.1:{port}/setup", json=SETUP)
            assert unknown.status_code == 401  # without a password nothing is tried
            assert not any(waiting.done() for waiting in tried)
        finally:
            delays.released.set()
        assert [waiting.result() for waiting in tried] == [401] * len(tried)
    assert delays.asked[:3] == [0.1, 0.2, 0.4]
    assert max(delays.asked) == LONGEST_DELAY_S < 1  # Label Studio awaits the answer to a webhook for a second
    assert attempt(port, "right") == 200


def test_the_refusal_of_the_application_is_slowed_down_too(services: Services, delays: Delays) -> None:
    """On loopback the body says whether the project needs the password."""
    services.projects.update("7", has_password=True)
    delays.released.set()
    with serving(services, services.settings) as port:
        assert {attempt(port, f"p{number}") for number in range(FREE + 3)} == {401}
    assert len(delays.asked) == 3


def test_secrets_of_webhooks_are_passwords(port: int, delays: Delays) -> None:
    delays.released.set()
    for number in range(FREE + 2):
        headers = {"X-Taxonomist-Secret": f"guess {number}"}
        assert httpx.post(f"http://127.0.0.1:{port}/webhook", json={}, headers=headers).status_code == 401
    assert len(delays.asked) == 2


def failed(table: FailedPasswords, address: str, times: int) -> None:
    async def all_of_them() -> None:
        for number in range(times):
            await table.slow_down(Caller(address, False, False, f"Basic {number}", None))

    with ThreadPoolExecutor(1) as thread:  # Playwright may run a loop in this one
        thread.submit(asyncio.run, all_of_them()).result()


def test_the_table_is_bounded_and_forgets(delays: Delays, monkeypatch: pytest.MonkeyPatch) -> None:
    delays.released.set()
    table = FailedPasswords()
    failed(table, "10.0.0.1", FREE + 1)
    assert len(delays.asked) == 1
    for number in range(2 * MOST_CALLERS):
        failed(table, f"10.1.{number // 200}.{number % 200}", 1)
    assert len(table._callers) == MOST_CALLERS
    failed(table, "10.0.0.2", FREE + 1)
    assert len(delays.asked) == 2
    monkeypatch.setattr(failed_passwords, "FORGOTTEN_AFTER_S", -1.0)
    failed(table, "10.0.0.2", FREE + 1)
    assert len(delays.asked) == 2


def test_a_network_of_ipv6_is_one_caller(delays: Delays) -> None:
    delays.released.set()
    table = FailedPasswords()
    for number in range(FREE + 1):
        failed(table, f"2001:db8:1:2::{number:x}", 1)
    assert len(delays.asked) == 1
    failed(table, "2001:db8:1:3::1", 1)
    assert len(delays.asked) == 1


def test_label_studio_is_heard_while_its_proxy_brings_guesses(services: Services, delays: Delays) -> None:
    """All callers behind one proxy have its address. What the server made itself cannot be found by trying."""
    secret = services.credentials.webhook_secret
    body = {"action": "X", "project": {"id": 7}}

    def send(secret: str) -> int:
        headers = {SECRET_HEADER: secret, "X-Forwarded-For": "192.0.2.1"}
        return httpx.post(f"http://127.0.0.1:{port}/webhook", json=body, headers=headers, timeout=30).status_code

    with serving(services, services.settings) as port, ThreadPoolExecutor(30) as clients:
        try:
            guesses = [clients.submit(send, f"guess {number}") for number in range(FREE + MOST_ON_TRIAL)]
            eventually("guesses wait", lambda: len(delays.asked) == MOST_ON_TRIAL)
            assert send("another guess") == 429
            assert send(secret) == 201
        finally:
            delays.released.set()
        assert {guess.result() for guess in guesses} == {401}
