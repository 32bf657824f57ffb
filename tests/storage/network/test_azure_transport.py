"""Azure's SDKs with a company's certificate, through a proxy; what stands behind it answers like Azure where needed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.blob_probe import probe
from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.credential import entra_credential
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.taxonomy.errors import ConfigError, StorageError
from tests.network import Authority, ForwardProxy, Reply, Server

QUICK = RetryPolicy(total_s=5.0, attempt_s=2.5, first_pause_s=0.05, longest_pause_s=0.2)
BLOB = "https://images.blob.company.test"
COSMOS = CosmosAccess("https://labels.company.test:443/", "a2V5", "taxonomist", ("images",))
ACCOUNT = (
    b'{"id": "company", "_rid": "company", "writableLocations": [], "readableLocations": [], '
    b'"userConsistencyPolicy": {"defaultConsistencyLevel": "Session"}}'
)


@pytest.fixture
def proxied(
    forward_proxy: ForwardProxy, secure: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> ForwardProxy:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))  # which aiohttp does not know
    monkeypatch.setenv("HTTPS_PROXY", forward_proxy.url)
    forward_proxy.hosts = {"images.blob.company.test:443": secure.port, "labels.company.test:443": secure.port}
    secure.replies["/"] = Reply(body=ACCOUNT)
    return forward_proxy


def look(url: str) -> None:
    account = BlobAccount(url, QUICK, account="images", key="a2V5")
    try:
        probe(account, "chairs")
    finally:
        account.close()


def open_cosmos() -> None:
    connection = CosmosConnection(COSMOS, QUICK)
    try:
        connection.run(connection.client)
    finally:
        connection.close()


def test_blob_storage(proxied: ForwardProxy, secure: Server) -> None:
    look(BLOB)
    assert proxied.passed == ["CONNECT images.blob.company.test:443"]
    assert [asked.path.startswith("/chairs/") for asked in secure.asked] == [True]


def test_cosmos_db(proxied: ForwardProxy, secure: Server) -> None:
    open_cosmos()
    assert set(proxied.passed) == {"CONNECT labels.company.test:443"}
    assert "GET" in secure.methods


def test_entra_id(proxied: ForwardProxy, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"AZURE_{name}", "company")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "labels.company.test")
    token = b'{"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}'
    secure.replies["/company/oauth2/v2.0/token"] = Reply(body=token)

    async def sign_in() -> str:
        credential = entra_credential()
        async with credential:
            return (await credential.get_token("https://storage.azure.com/.default")).token

    with ThreadPoolExecutor(1) as thread:  # Playwright's tests leave a running loop in this one
        assert thread.submit(lambda: asyncio.run(sign_in())).result() == "t"
    assert set(proxied.passed) == {"CONNECT labels.company.test:443"}


def test_no_proxy_counts_networks_too(proxied: ForwardProxy, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    look(secure.url)  # loopback
    assert len(secure.asked) == 1
    monkeypatch.setenv("NO_PROXY", "company.test")
    with pytest.raises(StorageError, match="within 5 seconds"):  # there is no such name in the real world
        look(BLOB)
    assert proxied.passed == []


@pytest.mark.parametrize("work", [open_cosmos, lambda: look(BLOB)])
def test_a_certificate_that_is_not_trusted_is_said_at_once(
    proxied: ForwardProxy, secure: Server, monkeypatch: pytest.MonkeyPatch, work: object
) -> None:
    assert callable(work)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(StorageError, match=r"certificate is not trusted: .*Set SSL_CERT_FILE") as caught:
        work()
    assert "within" not in str(caught.value)  # not after all attempts of the retry policy
    assert secure.asked == []


@pytest.mark.parametrize("work", [open_cosmos, lambda: look(BLOB)])
def test_a_file_that_is_gone_is_named(proxied: ForwardProxy, monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    assert callable(work)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/gone/company.pem")
    with pytest.raises(ConfigError, match=r"REQUESTS_CA_BUNDLE names /gone/company.pem"):
        work()


def test_a_proxy_with_a_password(proxied: ForwardProxy, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied.login = "user:p@ss"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxied.port}")
    look(BLOB)
    assert len(secure.asked) == 1
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:wr0ng@127.0.0.1:{proxied.port}")
    with pytest.raises(StorageError) as caught:
        look(BLOB)
    assert f"the proxy 127.0.0.1:{proxied.port} (HTTPS_PROXY) answered 407" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_a_proxy_that_is_away(proxied: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"the proxy 127.0.0.1:1 \(HTTPS_PROXY\) is not reachable"):
        look(BLOB)
