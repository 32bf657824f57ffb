from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxonomist.backend.settings import Settings, load_settings
from taxonomist.taxonomy.errors import ConfigError


def test_environment_wins_over_file_wins_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taxonomist.toml").write_text('port = 9100\nretrain_every = 7\nskips_as = ["Sort Out"]\n')
    monkeypatch.setenv("TAXONOMIST_PORT", "9200")
    settings = load_settings(min_annotators=3, host=None)
    assert (settings.port, settings.retrain_every, settings.min_annotators, settings.host) == (9200, 7, 3, "127.0.0.1")
    assert settings.agreement_policy.skips_as == ("Sort Out",)


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "taxonomist.toml").write_text("retrain_evry = 7\n")
    with pytest.raises(ConfigError, match=r"no setting 'retrain_evry', did you mean 'retrain_every'[?]"):
        load_settings()


def test_a_setting_that_is_gone_is_accepted_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TAXONOMIST_PRETRAIN_SKIP_TEST", "true")
    load_settings()
    assert "TAXONOMIST_PRETRAIN_SKIP_TEST has no effect any more: products of the test part never" in caplog.text
    monkeypatch.delenv("TAXONOMIST_PRETRAIN_SKIP_TEST")
    (tmp_path / "taxonomist.toml").write_text("pretrain_skip_test = false\n")
    load_settings()
    assert "The setting pretrain_skip_test has no effect any more" in caplog.text


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taxonomist.toml").write_text("port = = 3")
    with pytest.raises(ConfigError, match=r"taxonomist\.toml"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "99999"), ("MIN_AGREEMENT", "1.2"), ("LABEL_STUDIO_URL", "localhost:8080")]
)
def test_a_wrong_value_is_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TAXONOMIST_{name}", value)
    with pytest.raises(ConfigError, match=f"{name.lower()}.*{value}"):
        load_settings()


def test_credentials_in_an_address_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_PUBLIC_URL", "http://me:secret@host:9090")
    with pytest.raises(ConfigError, match="user name or password"):
        load_settings()


def test_addresses() -> None:
    assert Settings(host="::1", port=1).url == "http://[::1]:1"
    settings = Settings(public_url="http://ml.taxonomist:9090/", browser_url="https://images.example/")
    assert (settings.url, settings.page_url) == ("http://ml.taxonomist:9090", "https://images.example")


def test_secrets_are_not_printed() -> None:
    assert "hunter2" not in repr(Settings(password="hunter2", webhook_secret="hunter2", label_studio_api_key="hunter2"))


LISTS = [name for name, field in Settings.model_fields.items() if "list[" in str(field.annotation)]


@pytest.mark.parametrize("name", [name for name in LISTS if name not in {"label_studio_addresses", "trusted_proxies"}])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.5:8080", ["10.0.0.5:8080"]),
        ("a, b ,*.example.com,", ["a", "b", "*.example.com"]),
        ('["a", "b,c"]', ["a", "b,c"]),
        (' ["a"]', ["a"]),
        ("[]", []),
    ],
)
def test_a_list_is_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, expected: list[str]
) -> None:
    monkeypatch.setenv(f"TAXONOMIST_{name.upper()}", value)
    assert getattr(load_settings(), name) == expected
    monkeypatch.delenv(f"TAXONOMIST_{name.upper()}")
    (tmp_path / "taxonomist.toml").write_text(f"{name} = {json.dumps(value)}\n")
    assert getattr(load_settings(), name) == expected
    (tmp_path / "taxonomist.toml").write_text(f"{name} = {json.dumps(expected)}\n")
    assert getattr(load_settings(), name) == expected


@pytest.mark.parametrize("value", ["127.0.0.1, 10.0.0.0/8", '["127.0.0.1","10.0.0.0/8"]'])
def test_a_list_of_networks(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAXONOMIST_TRUSTED_PROXIES", value)
    assert load_settings().trusted_proxies == ["127.0.0.1", "10.0.0.0/8"]


@pytest.mark.parametrize(
    "value", ["http://a:8080/, https://b.example/labels", '["http://a:8080","https://b.example/labels"]']
)
def test_a_list_of_addresses(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_ADDRESSES", value)
    assert load_settings().label_studio_addresses == ["http://a:8080", "https://b.example/labels"]


@pytest.mark.parametrize("wrong", ["labels.example", "ftp://labels", "http://me:secret@labels"])
def test_a_list_with_something_else(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_ADDRESSES", f"http://a:8080,{wrong}")
    with pytest.raises(ConfigError, match="TAXONOMIST_LABEL_STUDIO_ADDRESSES") as error:
        load_settings()
    assert "secret" not in str(error.value)


def test_all_list_settings_are_tested() -> None:
    assert {"allowed_image_hosts", "skips_as", "cosmos_containers", "blob_containers"} <= set(LISTS)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["['a']", '["a"', "[1]", '[["a"]]'])
def test_a_wrong_list_is_named_with_its_variable_and_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"TAXONOMIST_{name.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    message = str(error.value)
    assert variable in message
    assert "a,b" in message
    assert value in message
    assert "taxonomist.toml" not in message


@pytest.mark.parametrize("value", ["debug", "Debug", "DEBUG"])
def test_the_log_level_in_any_case(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAXONOMIST_LOG_LEVEL", value)
    assert load_settings().log_level == "DEBUG"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_wrong_variable_is_reported_as_a_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever stands in a variable, the message names it, or it is a valid value."""
    for value in ("[", "{", '{"a": 1}', "a,b"):
        monkeypatch.setenv(f"TAXONOMIST_{name.upper()}", value)
        try:
            load_settings()
        except ConfigError as error:
            assert f"TAXONOMIST_{name.upper()}" in str(error)  # noqa: PT017


@pytest.mark.parametrize("value", ["socks5://user:wr0ng@proxy", "http://user:wr0ng@proxy/path", "http://user:wr#0ng@p"])
def test_a_password_of_the_image_proxy_is_never_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAXONOMIST_IMAGE_PROXY", value)
    with pytest.raises(ConfigError, match=r"TAXONOMIST_IMAGE_PROXY.*must look like http://host:port") as error:
        load_settings()
    assert not any(part in str(error.value) for part in ("wr0ng", "wr#0ng", "user"))
    monkeypatch.setenv("TAXONOMIST_IMAGE_PROXY", "http://user:wr0ng@proxy:3128")
    settings = load_settings()
    assert "wr0ng" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
