"""What the doctor says of certificates, proxies and redirects."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from tests.backend.connection.doctor.conftest import CONFIG, seen
from tests.network import Authority, ForwardProxy, Server


def connect(services: Services, url: str) -> None:
    services.projects.update("4", label_config=CONFIG, label_studio_url=url, api_key=SecretStr("token"))


def test_nothing_is_said_where_nothing_is_named(services: Services) -> None:
    assert not {"certificates", "image proxy"} & seen(services).keys()


def test_a_certificate_that_is_not_trusted(
    services: Services, secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(services, secure.url)
    check = seen(services, "4")["Label Studio"]
    assert check.status == "fail"
    assert "its certificate is not trusted" in check.detail
    assert check.fix.startswith("Set SSL_CERT_FILE to a file")
    services.settings.public_url = secure.url
    services.settings.__dict__.pop("url", None)
    assert seen(services)["server"].fix.startswith("Set SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    checks = seen(services, "4")
    assert "not trusted" not in checks["Label Studio"].detail
    assert str(authority.file) in checks["certificates"].detail
    assert secure.asked


def test_a_certificate_file_that_is_gone(services: Services, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/gone/company.pem")
    connect(services, secure.url)
    services.settings.public_url = secure.url
    services.settings.__dict__.pop("url", None)
    checks = seen(services, "4")
    for name in ("certificates", "server", "Label Studio"):
        assert "REQUESTS_CA_BUNDLE names /gone/company.pem" in checks[name].detail
        assert "REQUESTS_CA_BUNDLE" in checks[name].fix


def test_the_proxy_of_label_studio(
    services: Services, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward_proxy.login = "user:p@ss"
    monkeypatch.setenv("HTTP_PROXY", f"http://user:wr0ng@127.0.0.1:{forward_proxy.port}")
    connect(services, "http://labels.company.test")
    checks = seen(services, "4")
    assert checks["proxy for http://labels.company.test"].status == "ok"
    assert "407 Proxy Authentication Required" in checks["Label Studio"].detail
    assert "Correct HTTP_PROXY" in checks["Label Studio"].fix
    assert "wr0ng" not in json.dumps([check.__dict__ for check in checks.values()])
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:wr0ng@proxy")
    checks = seen(services, "4")
    assert checks["proxy for http://labels.company.test"].status == "fail"
    assert "wr0ng" not in json.dumps([check.__dict__ for check in checks.values()])


@pytest.mark.parametrize(
    ("hosts", "status", "words"),
    [
        (["images.company.test"], "ok", "through the proxy proxy:3128 (TAXONOMIST_IMAGE_PROXY)"),
        (["images.company.test", "*.blob.company.test"], "warn", "*.blob.company.test"),
        ([], "warn", "names no host"),
    ],
)
def test_the_proxy_for_images(services: Services, hosts: list[str], status: str, words: str) -> None:
    services.settings.image_proxy = SecretStr("http://user:wr0ng@proxy:3128")
    services.settings.allowed_image_hosts = hosts
    check = seen(services)["image proxy"]
    assert check.status == status
    assert words in check.detail
    assert "wr0ng" not in check.detail


def test_a_redirect_says_which_address_to_connect(services: Services, plain: Server) -> None:
    plain.redirect("/api/version", "https://labels.company.test/api/version")
    connect(services, plain.url)
    check = seen(services, "4")["Label Studio"]
    assert "redirects GET to https://labels.company.test/api/version" in check.detail
    assert "taxonomist connect --url https://labels.company.test" in check.fix
