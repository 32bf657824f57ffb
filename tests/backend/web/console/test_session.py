"""Who sees the console, and who may change what."""

from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.console import session as sessions
from taxonomist.backend.web.console.session import COOKIE
from taxonomist.backend.web.people import AuditLog
from tests.backend.web.console.conftest import PASSWORD, browser_of, guarded, log_in, token_of
from tests.small_world import publish_promise

PAGES = [
    "/projects",
    "/project/7/overview",
    "/project/nobody/overview",
    "/project/7/set-aside",
    "/project/7/changes",
    "/project/7/images",
    "/project/7/image?id=x",
    "/project/7/thumbnail?id=x",
    "/project/7/promote?version=v1",
    "/project/7/roll-back",
    "/project/7/retrain",
]


@pytest.mark.parametrize("path", PAGES)
def test_without_a_login_nothing_is_said_of_a_project(trained: Services, path: str) -> None:
    trained.projects.update("7", title="Secret sinks")
    client = browser_of(guarded(trained))
    answer = client.get(path)
    assert (answer.status_code, answer.get_data()) == (303, b"")
    assert answer.headers["Location"].endswith(
        f"login?next={path[1:].replace('/', '%2F').replace('?', '%3F').replace('=', '%3D')}"
    )
    shown = client.get("/login?next=project/7/overview").get_data(as_text=True)
    assert "sinks" not in shown


def test_a_login_leads_back_and_a_logout_ends_it(trained: Services) -> None:
    client = browser_of(guarded(trained))
    answer = client.post("/login", data={"password": PASSWORD, "next": "project/7/overview"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "project/7/overview")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=login.")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.get("/project/7/overview").status_code == 200
    client.post("/logout", data={"token": token_of(client, "/projects")})
    assert client.get("/projects").status_code == 303


def test_the_cookie_is_secure_behind_https(trained: Services) -> None:
    client = browser_of(guarded(trained))
    answer = client.post("/login", data={"password": PASSWORD}, headers={"Origin": "https://console.test"})
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", "ß" * 1000])
def test_a_wrong_password(trained: Services, password: str) -> None:
    client = browser_of(guarded(trained))
    assert log_in(client, password) == 401
    assert client.get("/projects").status_code == 303


@pytest.mark.parametrize(
    "wanted",
    ["//evil.test", "https://evil.test", "project/7/../../x", "javascript:alert(1)", "\\\\evil", "project/7/a//b"],
)
def test_a_login_leads_to_our_pages_only(trained: Services, wanted: str) -> None:
    client = browser_of(guarded(trained))
    answer = client.post("/login", data={"password": PASSWORD, "next": wanted})
    assert answer.headers["Location"] == "projects"


def test_sessions_that_ended_or_were_made_by_others(
    trained: Services, logged_in: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = logged_in.get_cookie(COOKIE)
    assert cookie is not None
    for other in (cookie.value[:-1] + "g", cookie.value.replace("login.", "login.9"), "x", "visit" + cookie.value[5:]):
        client = browser_of(guarded(trained))
        client.set_cookie(COOKIE, other)
        assert client.get("/projects").status_code == 303
    changed = Services(Settings(home=trained.settings.home, password=SecretStr("another")))
    client = browser_of(changed)
    client.set_cookie(COOKIE, cookie.value)
    assert client.get("/projects").status_code == 303
    later = time.time() + sessions.LIFE_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert logged_in.get("/projects").status_code == 303


def test_a_visit_without_a_password_is_no_login_to_a_server_with_one(trained: Services, visited: FlaskClient) -> None:
    assert "has no password" in visited.get("/projects").get_data(as_text=True)
    cookie = visited.get_cookie(COOKIE)
    assert cookie is not None
    assert cookie.value.startswith("visit.")
    client = browser_of(guarded(trained))
    client.set_cookie(COOKIE, cookie.value)
    assert client.get("/projects").status_code == 303


def test_without_a_password_only_this_machine_is_let_in(trained: Services) -> None:
    client = browser_of(trained)
    assert client.get("/projects", headers={"X-Forwarded-For": "10.1.1.1"}).status_code == 303
    assert client.get("/projects", environ_base={"REMOTE_ADDR": "10.1.1.1"}).status_code == 303


@pytest.mark.parametrize("action", ["promote", "roll-back", "retrain"])
def test_a_change_needs_the_token_of_the_page(trained: Services, logged_in: FlaskClient, action: str) -> None:
    name = registry_name("7")
    publish_promise(trained, "7", target=0.9, threshold=0.5)
    other = browser_of(guarded(trained))
    log_in(other)
    for token in ("", "x", "ß", token_of(other, "/projects")):
        answer = logged_in.post(f"/project/7/{action}", data={"token": token, "version": "v1"})
        assert answer.status_code == 403
    assert trained.registry.champion(name) == "v2"
    assert "train" not in [job.kind for job in trained.jobs.waiting()]


def test_promote_roll_back_and_retrain(trained: Services, logged_in: FlaskClient) -> None:
    name = registry_name("7")
    publish_promise(trained, "7", target=0.9, threshold=0.5)

    def change(action: str, **fields: str) -> None:
        path = f"/project/7/{action}"
        token = token_of(logged_in, f"{path}?version={fields.get('version', '')}")
        answer = logged_in.post(path, data={"token": token, **fields})
        assert answer.headers["Location"].endswith(f"project/7/overview?done={action}")

    change("promote", version="v1")
    assert trained.registry.champion(name) == "v1"
    change("roll-back")
    assert trained.registry.champion(name) == "v2"
    change("retrain")
    assert "train" in [job.kind for job in trained.jobs.waiting()]
    assert logged_in.get("/project/7/promote?version=v9").status_code == 404
    entries = AuditLog(trained.settings.home).entries("7")
    assert [(entry.who, entry.action, entry.what, entry.before) for entry in entries] == [
        ("console", "retrain", "", None),
        ("console", "roll-back", "v2", "v1"),
        ("console", "promote", "v1", "v2"),
    ]
    assert "v2" in logged_in.get("/project/7/changes").get_data(as_text=True)


def test_a_change_asks_for_the_password_again(
    trained: Services, logged_in: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_promise(trained, "7", target=0.9, threshold=0.5)
    later = time.time() + sessions.CONFIRMED_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    form = {"token": token_of(logged_in, "/project/7/roll-back")}
    assert 'type="password"' in logged_in.get("/project/7/roll-back").get_data(as_text=True)
    for password in ("", "wrong"):
        answer = logged_in.post("/project/7/roll-back", data={**form, "password": password})
        assert answer.status_code == 401
    assert trained.registry.champion(registry_name("7")) == "v2"
    assert logged_in.post("/project/7/roll-back", data={**form, "password": PASSWORD}).status_code == 303
    assert trained.registry.champion(registry_name("7")) == "v1"
    assert 'type="password"' not in logged_in.get("/project/7/roll-back").get_data(as_text=True)
