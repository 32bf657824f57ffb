"""The console of a home with a champion, as a browser and as a program see it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app

PASSWORD = "correct horse"
Open = Callable[[Services], FlaskClient]


def guarded(services: Services) -> Services:
    """Return the same home on a server with a password."""
    return Services(Settings(home=services.settings.home, password=SecretStr(PASSWORD)))


def browser_of(services: Services) -> FlaskClient:
    return create_app(services.settings, services).test_client()


def log_in(client: FlaskClient, password: str = PASSWORD) -> int:
    return client.post("/login", data={"password": password}).status_code


def token_of(client: FlaskClient, path: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', client.get(path).get_data(as_text=True))
    assert found, path
    return found[1]


@pytest.fixture
def visited(trained: Services) -> FlaskClient:
    """A browser on a server without a password, on the same machine."""
    return browser_of(trained)


@pytest.fixture
def logged_in(trained: Services) -> FlaskClient:
    client = browser_of(guarded(trained))
    assert log_in(client) == 303
    return client
