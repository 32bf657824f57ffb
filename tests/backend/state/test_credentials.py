from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import Credentials, check_exposure, load_credentials
from taxonomist.taxonomy.errors import AuthError, ConfigError


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def credentials() -> Credentials:
    return Credentials("lead", "pass:wörd", "hook", b"k" * 32)


def test_right_password(credentials: Credentials) -> None:
    assert credentials.has_password(basic("lead:pass:wörd"))


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic", "Basic !!!", "Bearer abc", basic("lead"), basic("lead:"), basic("x:pass:wörd"), "Basic /w=="],
)
def test_wrong_password(credentials: Credentials, header: str | None) -> None:
    assert not credentials.has_password(header)


def test_the_secret_of_webhooks(credentials: Credentials) -> None:
    assert credentials.has_secret("hook")
    assert not any(map(credentials.has_secret, (None, "", "hooK", "hook ", "hök")))


def test_without_a_setting_a_password_is_made_once_for_each_home(settings: Settings, tmp_path: Path) -> None:
    made = load_credentials(settings).password
    assert len(made) == 64
    assert load_credentials(settings).password == made
    assert load_credentials(Settings(home=tmp_path / "other")).password != made
    assert made not in {load_credentials(settings).webhook_secret, ""}


def test_project_keys_differ_and_last(settings: Settings) -> None:
    credentials = load_credentials(settings)
    again = load_credentials(settings)
    credentials.check_project_key("4", again.project_key("4"))
    for key in (None, "", "x", credentials.project_key("5")):
        with pytest.raises(AuthError):
            credentials.check_project_key("4", key)


def test_the_kept_secret_is_its_owners_only(settings: Settings) -> None:
    load_credentials(settings)
    assert stat.S_IMODE((settings.home / "secret").stat().st_mode) == 0o600


def test_a_damaged_secret_is_an_error(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        load_credentials(settings)


def test_no_password_no_exposure() -> None:
    check_exposure(Settings())
    check_exposure(Settings(host="127.0.0.2"))
    check_exposure(Settings(host="0.0.0.0", password="x"))
    check_exposure(Settings(host="0.0.0.0", allow_no_password=True))
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        with pytest.raises(ConfigError, match="without a password"):
            check_exposure(Settings(host=host))
