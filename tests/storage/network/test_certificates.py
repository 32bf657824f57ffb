"""A company's certificate, by each variable and for each kind of client, and the errors that name the variable."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
import requests

from taxonomist.storage.network.certificates import bundle_for_requests, certificates, untrusted
from taxonomist.storage.network.http_clients import http_client, reason_and_fix
from taxonomist.taxonomy.errors import ConfigError
from tests.network import Authority, Reply, Server

FILE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def get(url: str) -> int:
    with http_client(timeout=5) as client:
        return client.get(url).status_code


@pytest.mark.parametrize("variable", FILE_VARIABLES)
def test_a_companys_certificate_is_trusted_by_each_variable(
    secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    secure.replies["/"] = Reply()
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get(secure.url)
    monkeypatch.setenv(variable, str(authority.file))
    assert get(secure.url) == 200


def test_a_folder_of_certificates_is_read_whole(
    secure: Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "README").write_text("Not a certificate.")
    monkeypatch.setenv("SSL_CERT_DIR", f"{folder}{os.pathsep}{authority.file.parent}")
    with pytest.raises(ConfigError, match=r"SSL_CERT_DIR names .*authorities, which has no certificate"):
        certificates()
    (folder / "company.crt").write_bytes(authority.file.read_bytes())  # without a hashed name
    secure.replies["/"] = Reply()
    assert get(secure.url) == 200


def test_the_files_of_all_variables_count_and_the_public_ones_with_them(
    secure: Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(tmp_path, "Other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    names = str(certificates().get_ca_certs())
    assert "Company Root" in names
    assert "Other Root" in names
    assert "ISRG Root X1" in names  # Let's Encrypt's, as an example of the public ones
    secure.replies["/"] = Reply()
    assert get(secure.url) == 200


@pytest.mark.parametrize("variable", FILE_VARIABLES)
@pytest.mark.parametrize("content", [None, b"", b"Not a certificate.", "der"])
def test_a_file_that_is_no_certificate_is_named_with_its_variable(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, content: bytes | str | None
) -> None:
    file = tmp_path / "company.cer"
    if content is not None:
        file.write_bytes(authority.der() if content == "der" else bytes(content))  # type: ignore[arg-type]
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(ConfigError) as caught:
        get("https://127.0.0.1:1")
    assert f"{variable} names {file}" in str(caught.value)
    assert ("cannot be read" if content is None else "no certificate in PEM form") in str(caught.value)
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.file.chmod(0)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE names .* cannot be read \(Permission denied\)"):
        certificates()


def test_plain_http_needs_no_certificate(plain: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    plain.replies["/"] = Reply()
    assert get(plain.url) == 200


def test_an_empty_variable_is_not_set(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "  ")
    certificates()


def refused(url: str) -> tuple[str, str | None]:
    with pytest.raises(httpx.ConnectError) as caught:
        get(url)
    assert untrusted(caught.value)
    return reason_and_fix(caught.value)


def test_the_fix_depends_on_what_is_wrong(
    secure: Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason, fix = refused(secure.url)
    assert "not trusted" in reason
    assert fix is not None
    assert "Set SSL_CERT_FILE" in fix
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path, "Other").file))
    _, fix = refused(secure.url)
    assert fix is not None
    assert f"{tmp_path / 'Other.pem'} (REQUESTS_CA_BUNDLE)" in fix
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    with Server(authority.server_side("127.0.0.1", days=-1)) as expired:
        assert "Renew" in str(refused(expired.url)[1])
    with Server(authority.server_side("elsewhere.company.test")) as named:
        assert "a name that is in its certificate" in str(refused(named.url)[1])
    assert untrusted(httpx.ConnectError("refused")) is None


def test_requests_gets_a_file_with_all_of_them(
    secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # which requests does not know
    secure.replies["/"] = Reply()
    with pytest.raises(requests.exceptions.SSLError) as caught:
        requests.get(secure.url, timeout=5)
    assert untrusted(caught.value)
    with bundle_for_requests():
        assert requests.get(secure.url, timeout=5).ok
        bundle = Path(os.environ["REQUESTS_CA_BUNDLE"])
        assert bundle.read_text().count("BEGIN CERTIFICATE") > 50  # the public ones, too
    assert "REQUESTS_CA_BUNDLE" not in os.environ
    assert not bundle.exists()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/before.pem")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ConfigError), bundle_for_requests():
        pass
    assert os.environ["REQUESTS_CA_BUNDLE"] == "/before.pem"


def test_without_variables_requests_is_left_alone(no_network_variables: None) -> None:
    with bundle_for_requests():
        assert "REQUESTS_CA_BUNDLE" not in os.environ
