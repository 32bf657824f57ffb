"""Our server below a path of a reverse proxy: real requests through a proxy that keeps the path, or removes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from flask import redirect, url_for

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app
from tests.backend.web.serving import serving
from tests.backend.web.test_app import new_image
from tests.path_proxy import path_proxy
from tests.small_world import CONFIG

PREFIX = "/tools/taxonomist"


@pytest.mark.parametrize("setting", ["public_url", "browser_url", None])
@pytest.mark.parametrize("removes", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_pages_thumbnails_and_routes_below_a_path(
    trained: Services, setting: str | None, removes: bool, header: bool
) -> None:
    if setting is None and not removes and not header:
        pytest.skip("then nothing says what the path is")
    urls: dict[str, Any] = {setting: f"https://host{PREFIX}"} if setting else {}
    proxies = [] if setting else ["127.0.0.1"]  # then only the header of a proxy that we know says the path
    settings = Settings(home=trained.settings.home, trusted_proxies=proxies, **urls)
    headers = {"X-Forwarded-Prefix": PREFIX} if header else {}
    key, uri = trained.credentials.project_key("7"), new_image(trained, ("Cold", "Green"))
    with ExitStack() as stack:
        ours = stack.enter_context(serving(trained, settings))
        site = stack.enter_context(path_proxy({PREFIX: ours}, removes=removes, headers=headers))
        page = httpx.get(f"{site}{PREFIX}/similar?project=7&key={key}&src={uri}")
        assert page.status_code == 200, page.text
        image = page.text.split('<img src="')[1].split('"')[0].replace("&amp;", "&")
        thumbnail = httpx.get(urljoin(str(page.url), image))
        assert thumbnail.headers["Content-Type"] == "image/jpeg"
        assert httpx.get(f"{site}{PREFIX}/health").json()["status"] == "UP"
        if setting == "browser_url" and (header or not removes):
            return  # then only pages are there, see callers/test_page_address.py
        body = {"project": "7.1", "schema": CONFIG}
        password = ("taxonomist", trained.credentials.password)
        set_up = httpx.post(f"{site}{PREFIX}/setup", json=body, auth=password)
        assert set_up.json()["model_version"] == "taxonomist-v1"
        webhook = {"action": "PROJECT_UPDATED", "project": {"id": 7, "label_config": CONFIG}}
        assert httpx.post(f"{site}{PREFIX}/webhook", json=webhook, auth=password).status_code == 201
        # Who calls the server without the proxy, as Label Studio in the same network does, needs no path.
        assert httpx.get(f"http://127.0.0.1:{ours}/health").status_code == 200


def link(settings: Settings, prefix: str, caller: str) -> str:
    """Return the address to which the application redirects a caller from one of its routes to another."""
    app = create_app(settings)
    app.add_url_rule("/away", "away", lambda: redirect(url_for("health")))
    environ = {"REMOTE_ADDR": caller}
    answer = app.test_client().get("/away", headers={"X-Forwarded-Prefix": prefix}, environ_overrides=environ)
    return answer.headers["Location"]


@pytest.mark.parametrize(
    ("prefix", "caller", "used"),
    [
        ("/other", "192.168.3.4", True),  # a proxy of the settings
        ("/other", "127.0.0.1", False),  # whatever is on this machine
        ("/other", "10.0.0.7", False),  # anybody
        (PREFIX, "10.0.0.7", True),  # anybody says what we know
        (f"{PREFIX}/", "10.0.0.7", True),
        ("//evil.example", "192.168.3.4", False),
        ("/\\evil.example", "192.168.3.4", False),
        ("/a/../b", "192.168.3.4", False),
        ("/a, /b", "192.168.3.4", False),
        ("https://evil.example", "192.168.3.4", False),
        ('/"><script>', "192.168.3.4", False),
        ("", "192.168.3.4", False),
        ("/", "192.168.3.4", False),
    ],
)
def test_whose_header_is_believed(tmp_path: Path, prefix: str, caller: str, used: bool) -> None:
    settings = Settings(
        home=tmp_path,
        public_url=f"https://host{PREFIX}",
        trusted_proxies="192.168.0.0/16",
    )
    assert link(settings, prefix, caller) == (f"{prefix.rstrip('/')}/health" if used else "/health")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        (f"{PREFIX}/health", 200),
        (f"{PREFIX}/livez", 200),
        (f"{PREFIX}x/health", 404),
        (f"/x{PREFIX}/health", 404),
        (f"{PREFIX}{PREFIX}/health", 404),
    ],
)
def test_only_the_known_path_is_removed(tmp_path: Path, path: str, status: int) -> None:
    settings = Settings(home=tmp_path, public_url=f"https://host{PREFIX}/")
    assert create_app(settings).test_client().get(path).status_code == status


def test_a_path_in_any_script(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, public_url="https://host/Bäder%20x")
    client = create_app(settings).test_client()
    assert client.get("/B%C3%A4der%20x/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "1.2.3.4"}, {"Forwarded": "for=1.2.3.4"}, {"X-Forwarded-Prefix": "/x"}, {"Via": "1.1 proxy"}],
)
def test_behind_a_proxy_nobody_counts_as_local(services: Services, headers: Mapping[str, str]) -> None:
    """Without a password /setup may name a Label Studio on this machine, but only from this machine."""
    body = {"project": "4.1", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "t"}
    client = create_app(services.settings, services).test_client()
    assert client.post("/setup", json=body, headers=headers).status_code == 401
    assert services.projects.get("4").label_studio_url is None
    assert client.post("/setup", json=body).status_code == 200
    assert services.projects.get("4").label_studio_url == "http://localhost:8080"
