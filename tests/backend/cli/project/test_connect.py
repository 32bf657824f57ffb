"""`taxonomist connect` on a project that was connected before."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.connect import webhook_address
from taxonomist.backend.connection.look_alike_panel import keys_in, with_panel
from taxonomist.backend.services import Services
from taxonomist.backend.state.credentials import key_end
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_records import LOST_TOKEN
from taxonomist.taxonomy.label_config import write_label_config
from tests.backend.cli.conftest import Run
from tests.backend.web.serving import serving
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG


@pytest.fixture
def former(services: Services) -> StandIn:
    """A Label Studio that revoked the token with which project 4 was connected; it accepts the token "new"."""
    label_studio = StandIn()
    label_studio.tokens = {"new"}
    label_studio.introduce_itself()
    del label_studio.answers["/api/ml"], label_studio.answers["/api/webhooks"]
    label_studio.answers["/api/projects/4/validate"] = {}
    url = services.settings.url
    label_studio.ml_backends[8] = {"id": 8, "project": 4, "url": url, "title": "taxonomist-v0"}
    label_studio.webhooks[9] = {"id": 9, "project": 4, "url": webhook_address(services.settings), "headers": {}}
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("revoked"))
    return label_studio


def test_a_revoked_token_is_replaced_by_that_of_the_environment(
    run: Run, services: Services, former: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the error of the revoked token says."""
    with former:
        code, _, err = run("connect", "--project", "4", "--yes", "--annotators", "1")
        assert code != 0
        assert "TAXONOMIST_LABEL_STUDIO_API_KEY" in err
        monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_API_KEY", "new")
        code, _, err = run("connect", "--project", "4", "--yes", "--annotators", "1")
        assert (code, "the other one that is known is used" in err) == (0, True)
    record = services.projects.get("4")
    assert record.api_key is not None
    assert record.api_key.get_secret_value() == "new"
    assert [job.kind for job in services.jobs.waiting()] == [JobKind.SYNC]


CONNECT = ("connect", "--project", "4", "--api-key", "new", "--annotators", "1")


@pytest.mark.parametrize("first", [True, False], ids=["", "connected again"])
def test_afterwards_calls_need_the_password_of_label_studio(
    run: Run, services: Services, former: StandIn, first: bool
) -> None:
    """Here, on loopback, too; webhooks need the secret in their header, or the password."""
    if first:
        del former.ml_backends[8], former.webhooks[9]
    setup = {"project": "4.1795531934", "schema": CONFIG}
    calls = {
        "/setup": setup,
        "/predict": {"project": setup["project"], "label_config": CONFIG, "tasks": []},
        "/webhook": {"action": "START_TRAINING", "project": {"id": 4, "label_config": CONFIG}},
        "/train": {"project": 4},
    }
    with former, serving(services, services.settings) as port:
        url = f"http://127.0.0.1:{port}"
        assert httpx.post(f"{url}/setup", json=setup).status_code == 200
        code, _, err = run(*CONNECT, "--url", former.url, "--yes")
        assert code == 0, err
        [row], [hook] = former.ml_backends.values(), former.webhooks.values()
        headers = hook["headers"]
        password = (row["basic_auth_user"], row["basic_auth_pass"])
        without = {path: httpx.post(url + path, json=body).status_code for path, body in calls.items()}
        secret = {path: httpx.post(url + path, json=body, headers=headers).status_code for path, body in calls.items()}
        right = {path: httpx.post(url + path, json=body, auth=password).status_code for path, body in calls.items()}
    assert row["auth_method"] == "BASIC_AUTH"
    assert without == {"/setup": 401, "/predict": 401, "/webhook": 401, "/train": 401}
    assert secret == {"/setup": 401, "/predict": 401, "/webhook": 201, "/train": 401}
    assert right == {"/setup": 200, "/predict": 200, "/webhook": 201, "/train": 201}


@pytest.mark.parametrize("declined", [False, True], ids=["", "declined"])
def test_a_key_of_an_earlier_release_is_valid_for_a_week_after_a_new_panel(
    run: Run, services: Services, former: StandIn, declined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hmac.new(services.credentials.signing_key, b"similar:4", hashlib.sha256).digest()
    key = base64.urlsafe_b64encode(digest[:18]).decode()
    former.label_config = with_panel(CONFIG, services.settings.page_url, "4", key)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n-\n"))  # no panel; nothing names the products
    today, page = datetime.now(UTC).date(), {"project": "4", "key": key, "src": "/data/upload/4/a.jpg"}
    with former, serving(services, services.settings) as port:
        code, _, err = run(*CONNECT, *([] if declined else ["--yes"]))
        assert code == 0, err
        opened = []
        for days in (0, 7, 8):
            monkeypatch.setattr("taxonomist.backend.state.credentials.today", lambda: today + timedelta(days=days))  # noqa: B023
            opened.append(httpx.get(f"http://127.0.0.1:{port}/similar", params=page).status_code)
    assert opened == ([200, 200, 200] if declined else [200, 200, 403])
    [shown] = keys_in(former.label_config)
    assert key_end(shown) == (None if declined else today + timedelta(days=90))


def test_it_gives_back_what_a_damaged_record_lost(run: Run, services: Services, former: StandIn) -> None:
    services.projects.update("4", lost=(LOST_TOKEN,))
    with former:
        assert LOST_TOKEN in run("doctor", "--project", "4")[1]
        code, _, err = run(*CONNECT, "--yes")
        assert code == 0, err
        assert LOST_TOKEN not in run("doctor", "--project", "4")[1]


def test_a_key_of_another_home_is_replaced(run: Run, services: Services, former: StandIn) -> None:
    foreign = f"20990101-{'x' * 24}"
    former.label_config = with_panel(CONFIG, services.settings.page_url, "4", foreign)
    with former, serving(services, services.settings) as port:
        code, _, err = run(*CONNECT, "--yes")
        assert code == 0, err
        [key] = keys_in(former.label_config)
        pages = [{"project": "4", "key": found, "src": "/data/upload/4/a.jpg"} for found in (foreign, key)]
        opened = [httpx.get(f"http://127.0.0.1:{port}/similar", params=page).status_code for page in pages]
    assert opened == [403, 200]


@pytest.mark.parametrize("levels", [64, 65])
def test_a_config_that_is_too_large_changes_nothing(run: Run, services: Services, former: StandIn, levels: int) -> None:
    former.tokens, former.label_config = set(), write_label_config([tuple(f"n{level}" for level in range(levels))])
    record = services.projects.update("4", created="1795531934")
    row = dict(former.ml_backends[8])
    with former:
        for command in ((*CONNECT, "--yes"), ("sync", "--project", "4")):
            code, _, err = run(*command)
            if levels == 65:
                assert (code, "65 levels of choices; at most 64" in err) == (2, True), err
            else:
                assert code == 0, err
    unchanged = (services.projects.get("4") == record, former.ml_backends[8] == row)
    assert unchanged == (levels == 65, levels == 65)


def test_the_fields_of_tasks_control_no_terminal(
    run: Run, services: Services, former: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = "product\x1b[2J"
    for number in range(8):
        uri = f"/data/upload/4/{number}.jpg"
        former.add_task(number, uri, data={"image": uri, field: f"p{number // 2}"})
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n\n"))
    with former:
        code, out, err = run(*CONNECT)
    assert (code, services.projects.get("4").settings.product_field) == (0, field), err
    assert r"[product\x1b[2J]" in out  # the proposal
    assert (out + err).replace("\n", "").isprintable()
