"""What the doctor says of a Label Studio that does not answer. tests/e2e/test_doctor.py has a real one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.doctor.label_studio import _panel
from taxonomist.backend.connection.look_alike_panel import with_panel
from taxonomist.backend.label_studio import Project
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.taxonomy.label_config import parse_label_config
from tests.backend.connection.doctor.conftest import CONFIG, seen
from tests.label_studio_stand_in import StandIn


def test_label_studio_that_is_unknown_or_away(services: Services) -> None:
    services.projects.update("4", label_config=CONFIG)
    unknown = seen(services, "4")["Label Studio"]
    assert (unknown.status, "taxonomist connect" in unknown.fix) == ("fail", True)
    services.settings.label_studio_url = "http://127.0.0.1:1"
    services.projects.update("4", api_key=SecretStr("t"))
    away = seen(services, "4")["Label Studio"]
    assert "cannot be reached" in away.detail
    assert away.fix


@pytest.mark.parametrize(
    ("release", "status", "says"),
    [
        ("1.23.2", "ok", "1.23.2 at http"),
        ("1.23.2.post0", "ok", "1.23.2"),
        ("1.7.3", "warn", "older than"),
        ("0.9.1", "warn", "older than"),
        ("1.99.0", "warn", "newer than"),
        ("2.0.0", "warn", "newer than"),
    ],
)
def test_releases_outside_the_tested_range(services: Services, release: str, status: str, says: str) -> None:
    with connected(services) as label_studio:
        label_studio.answers["/api/version"] = {"release": release}
        check = seen(services, "4")["Label Studio"]
    assert (check.status, says in check.detail) == (status, True)
    assert bool(check.fix) == (status == "warn")


def test_the_other_addresses_are_named(services: Services) -> None:
    with connected(services) as label_studio:
        services.projects.update("4", label_studio_addresses=("https://labels.example",))
        label_studio.answers["/api/version"] = {"release": "1.23.2"}
        assert "also known as https://labels.example" in seen(services, "4")["Label Studio"].detail


def test_a_revoked_token_is_told_from_other_faults(services: Services) -> None:
    with connected(services) as label_studio:
        label_studio.answers["/api/version"] = {"release": "1.23.2"}
        label_studio.refuse = lambda method, path: 401 if path == "/api/current-user/whoami" else None
        check = seen(services, "4")["token"]
    assert (check.status, "401" in check.detail) == ("fail", True)
    for part in ("revoked", "Personal Access Token", "taxonomist connect", "TAXONOMIST_LABEL_STUDIO_API_KEY"):
        assert part in check.fix


@pytest.mark.parametrize(
    ("sampling", "status"), [("Uncertainty sampling", "ok"), ("Sequential sampling", "warn"), (None, "warn")]
)
def test_label_studio_must_take_tasks_by_their_places(services: Services, sampling: str | None, status: str) -> None:
    def answer(method: str, path: str, found: Any) -> Any:
        return found | {"sampling": sampling} if path.rstrip("/") == "/api/projects/4" else found

    with connected(services) as label_studio:
        label_studio.introduce_itself()
        label_studio.answer = answer
        assert "order of labelling" not in seen(services, "4")
        services.projects.update("4", settings=ProjectChoices(order="diverse"))
        assert seen(services, "4")["order of labelling"].status == status


@contextmanager
def connected(services: Services) -> Iterator[StandIn]:
    with StandIn() as label_studio:
        services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
        yield label_studio


@pytest.mark.parametrize("browser_url", [None, "https://images.example/panel"])
def test_the_panel_has_the_address_that_connect_writes(services: Services, browser_url: str | None) -> None:
    services.settings.browser_url = browser_url
    services.settings.public_url = "http://taxonomist.internal:9090"
    key = services.credentials.project_key("4")
    written = with_panel(CONFIG, services.settings.page_url, "4", key)
    now = datetime.now(UTC)

    def check(config: str) -> str:
        about = Project("4", "", config, now, True, "", "", tasks=0, annotated_tasks=0, annotations=0)
        return _panel(services, "4", about, parse_label_config(config)).status

    assert check(written) == "ok"
    about = Project("4", "", written, now, True, "", "", tasks=0, annotated_tasks=0, annotations=0)
    ends = datetime.now(UTC).date() + timedelta(days=90)
    assert f"valid until {ends}" in _panel(services, "4", about, parse_label_config(written)).detail
    soon = services.credentials.project_key("4", until=now.date() + timedelta(days=3))
    assert check(with_panel(CONFIG, services.settings.page_url, "4", soon)) == "warn"
    ended = services.credentials.project_key("4", until=now.date() - timedelta(days=2))
    assert check(with_panel(CONFIG, services.settings.page_url, "4", ended)) == "fail"
    assert check(CONFIG) == "warn"
    assert check(with_panel(CONFIG, "http://elsewhere:9090", "4", key)) == "fail"


@pytest.mark.parametrize(
    ("addresses", "status", "says"),
    [
        (
            ("https://müller.test/ls", "http://labels.test.:8080"),
            "ok",
            "https://xn--mller-kva.test, http://labels.test.",
        ),
        (("http://[2001:db8::1]:8080",), "warn", "those of http://[2001:db8::1]:8080 may not"),
        (("http://label_studio:8080",), "warn", "those of http://label_studio:8080 may not"),
    ],
)
def test_the_sites_that_may_frame_the_panel_are_named(
    services: Services, addresses: tuple[str, ...], status: str, says: str
) -> None:
    with connected(services) as label_studio:
        config = with_panel(CONFIG, services.settings.page_url, "4", services.credentials.project_key("4"))
        label_studio.answer = lambda _method, path, found: (
            {**found, "label_config": config} if path.rstrip("/") == "/api/projects/4" else found
        )
        services.projects.update("4", label_studio_addresses=addresses)
        label_studio.answers["/api/version"] = {"release": "1.23.2"}
        label_studio.answers["/api/current-user/whoami"] = {"email": "anna@labels.test"}
        check = seen(services, "4")["frame of the panel"]
    assert (check.status, label_studio.url in check.detail, says in check.detail) == (status, True, True)
    assert ("TAXONOMIST_LABEL_STUDIO_ADDRESSES" in check.fix) == (status == "warn")


@pytest.mark.parametrize(("days", "status"), [(6, "ok"), (5, "warn"), (0, "warn"), (-1, "fail")])
def test_a_key_that_the_worker_has_not_renewed_is_reported(services: Services, days: int, status: str) -> None:
    """It does so seven days before the end."""
    end = datetime.now(UTC).date() + timedelta(days=days)
    with connected(services) as label_studio:
        label_studio.introduce_itself()
        key = services.credentials.project_key("4", until=end)
        label_studio.label_config = with_panel(CONFIG, services.settings.page_url, "4", key)
        check = seen(services, "4")["look-alike panel"]
    assert check.status == status, check
    assert str(end) in check.detail


@pytest.mark.parametrize(("days", "status"), [(None, "ok"), (0, "ok"), (-1, "fail")])
def test_a_key_of_an_earlier_release_is_reported_when_it_has_ended(
    services: Services, days: int | None, status: str
) -> None:
    digest = hmac.new(services.credentials.signing_key, b"similar:4", hashlib.sha256).digest()
    key = base64.urlsafe_b64encode(digest[:18]).decode()
    with connected(services) as label_studio:
        label_studio.introduce_itself()
        label_studio.label_config = with_panel(CONFIG, services.settings.page_url, "4", key)
        until = None if days is None else datetime.now(UTC).date() + timedelta(days=days)
        services.projects.update("4", former_keys_until=until)
        check = seen(services, "4")["look-alike panel"]
    assert check.status == status, check
    assert ("the worker gives its key an end" in check.detail) == (status == "ok")
