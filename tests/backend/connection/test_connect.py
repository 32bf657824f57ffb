"""Decisions of connect. Its effect on a real Label Studio is tested in tests/e2e/test_connect.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taxonomist.backend.connection.announce import set_model_version
from taxonomist.backend.connection.connect import (
    check_callable,
    connect,
    own_row,
    own_webhooks,
    webhook_address,
    webhook_is_right,
)
from taxonomist.backend.label_studio import LabelStudioClient, MlBackend, Webhook
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER, load_credentials
from taxonomist.backend.state.project_records import ProjectRecord, ProjectRecords
from taxonomist.taxonomy.errors import ConfigError


def row(number: int, url: str) -> MlBackend:
    return MlBackend(number, "4", url, "title", "CO", "Connected", "", "v1", "NONE", "")


def test_our_row_is_known_by_its_address_before_its_number(settings: Settings) -> None:
    record = ProjectRecord(project="4", ml_backend=1)
    rows = [row(1, "http://old:9090"), row(2, settings.url + "/")]
    assert own_row(rows, settings, record) == rows[1]
    assert own_row(rows[:1], settings, record) == rows[0]  # we moved to another address
    assert own_row(rows[:1], settings, ProjectRecord(project="4")) is None
    assert own_row([], settings, record) is None


def test_our_webhooks_are_known_by_address_or_secret(settings: Settings) -> None:
    credentials = load_credentials(settings)
    secret = {SECRET_HEADER: credentials.webhook_secret}
    plain = Webhook(1, webhook_address(settings), {}, False, True, True)
    moved = Webhook(2, "http://old:9090/webhook", secret, True, True, True)
    foreign = Webhook(3, "http://other:9090/webhook", {SECRET_HEADER: "theirs"}, True, True, True)
    right = Webhook(4, webhook_address(settings), secret, True, True, True)
    found = own_webhooks([plain, moved, foreign, right], settings, credentials)
    assert [hook.id for hook in found] == [4, 2, 1]  # active ones first, and the right address before another


@pytest.mark.parametrize(
    "wrong",
    [
        {"is_active": False},
        {"for_all_actions": False},
        {"with_payload": False},
        {"url": "http://x/webhook"},
        {"headers": {}},
    ],
)
def test_a_right_webhook_has_everything(settings: Settings, wrong: dict[str, object]) -> None:
    credentials = load_credentials(settings)
    secret = {SECRET_HEADER: credentials.webhook_secret, "Other": "kept"}
    right = Webhook(1, webhook_address(settings), secret, True, True, True)
    assert webhook_is_right(right, settings, credentials)
    assert not webhook_is_right(replace(right, **wrong), settings, credentials)  # type: ignore[arg-type]


def test_the_address_of_every_interface_is_no_address_to_call(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        settings = Settings(home=tmp_path, host=host, allow_no_password=True)
        with pytest.raises(ConfigError, match="TAXONOMIST_PUBLIC_URL"):
            check_callable(settings)
    check_callable(Settings(home=tmp_path, host="0.0.0.0", public_url="http://taxonomist.internal:9090"))


def test_nothing_is_called_before_our_own_address_is_right(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, host="0.0.0.0", allow_no_password=True)
    with pytest.raises(ConfigError, match="PUBLIC_URL"):
        connect(
            settings,
            load_credentials(settings),
            ProjectRecords(tmp_path),
            url="http://127.0.0.1:1",
            api_key="t",
            project="4",
            model_version="taxonomist-v1",
            ask=lambda question: True,
            say=lambda text: None,
        )


def test_a_project_that_was_never_connected_gets_no_model_version(settings: Settings) -> None:
    with LabelStudioClient("http://127.0.0.1:1", "t") as client:
        set_model_version(client, ProjectRecord(project="4"), "v2", settings, load_credentials(settings))
