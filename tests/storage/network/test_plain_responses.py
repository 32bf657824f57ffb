"""Answers of other servers that would take much memory: each client refuses them while it reads."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.cosmos_connection import CosmosAccess, CosmosConnection
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.storage.network import azure_transport
from taxonomist.storage.network.http_clients import http_client, reason_and_fix
from taxonomist.storage.network.plain_responses import UnusableResponse
from taxonomist.taxonomy.errors import LabelStudioError, StorageError
from tests.network import Reply, Server

BOMB = gzip.compress(gzip.compress(b" " * 100_000_000))
COMPRESSED = Reply(body=BOMB, headers={"Content-Encoding": "gzip, gzip"})
JWT = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmVk"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate", "X-GZIP", "br", "zstd"])
def test_a_compressed_answer_is_refused_before_it_is_read(plain: Server, encoding: str) -> None:
    assert len(BOMB) < 1000
    plain.replies["/"] = Reply(body=BOMB, headers={"Content-Encoding": encoding})
    tracemalloc.start()
    try:
        with (
            http_client(timeout=5, headers={"Accept-Encoding": "gzip"}) as client,
            pytest.raises(UnusableResponse, match="answers compressed") as caught,
        ):
            client.get(plain.url)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert plain.asked[0].headers["Accept-Encoding"] == "identity"
    assert reason_and_fix(caught.value)[1] is not None


def test_an_answer_is_read_up_to_a_limit(plain: Server) -> None:
    plain.replies["/"] = Reply(body=b"x" * 1000)
    with http_client(timeout=5, max_bytes=1000) as client:
        assert len(client.get(plain.url).content) == 1000
    with http_client(timeout=5, max_bytes=999) as client:
        with pytest.raises(UnusableResponse, match="more than 999 bytes"):
            client.get(plain.url)
        with pytest.raises(UnusableResponse), client.stream("GET", plain.url) as response:
            response.read()


def test_every_call_of_label_studio(plain: Server) -> None:
    for path in ("/api/version", "/api/current-user/whoami", "/api/projects/1/", "/api/projects/1", "/api/tasks/"):
        plain.replies[path] = COMPRESSED
    with LabelStudioClient(plain.url, "token") as client:
        for call in (client.version, client.user, lambda: client.project("1"), lambda: list(client.tasks("1"))):
            with pytest.raises(LabelStudioError, match="answers compressed"):
                call()
    plain.replies["/api/token/refresh/"] = COMPRESSED
    with pytest.raises(LabelStudioError, match="answers compressed"):
        TokenAuth(plain.url, lambda: JWT).header()


def test_blobs(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    account = BlobAccount(plain.url, RetryPolicy(total_s=10), account="images", key="a2V5")
    headers = {"ETag": '"1"', "Last-Modified": "Fri, 01 Jan 2021 00:00:00 GMT", "x-ms-blob-type": "BlockBlob"}
    plain.replies["/chairs/a.jpg"] = Reply(body=BOMB, headers=headers | {"Content-Encoding": "gzip"})
    try:
        with pytest.raises(StorageError, match="answers compressed"):
            account.run(lambda: account.read("chairs", "a.jpg"))
        assert plain.asked[0].headers["Accept-Encoding"] == "identity"
        monkeypatch.setattr(azure_transport, "MAX_RESPONSE_BYTES", 1000)
        plain.replies["/chairs"] = Reply(body=b"<EnumerationResults>" + b" " * 1000, headers=headers)
        with pytest.raises(StorageError, match="more than 1,000"):
            account.run(lambda: account.list("chairs", ""))
    finally:
        account.close()


def _chunked(body: bytes) -> Reply:
    """Return an answer whose length is not announced."""
    parts = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return Reply(
        body=chunks + b"0\r\n\r\n", headers={"Transfer-Encoding": "chunked", "Content-Type": "application/xml"}
    )


def test_a_list_of_blobs_that_does_not_end(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    account = BlobAccount(plain.url, RetryPolicy(total_s=10), account="images", key="a2V5")
    monkeypatch.setattr(azure_transport, "MAX_RESPONSE_BYTES", 1_000_000)
    try:
        plain.replies["/chairs"] = _chunked(b"<EnumerationResults>" + b" " * 40_000_000)
        tracemalloc.start()
        with pytest.raises(StorageError, match="more than 1,000,000 bytes"):
            account.run(lambda: account.list("chairs", ""))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        empty = b'<?xml version="1.0"?><EnumerationResults><Blobs /><NextMarker /></EnumerationResults>'
        plain.replies["/chairs"] = _chunked(empty + b" " * 900_000)
        assert list(account.run(lambda: account.list("chairs", ""))) == []
    finally:
        tracemalloc.stop()
        account.close()


def test_an_account_of_cosmos_that_does_not_end(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    access = CosmosAccess(plain.url, "a2V5", "catalogue", ("images",))
    connection = CosmosConnection(access, RetryPolicy(total_s=10))
    monkeypatch.setattr(azure_transport, "MAX_RESPONSE_BYTES", 1_000_000)
    plain.replies["/"] = _chunked(b'{"id": "' + b"x" * 40_000_000 + b'"}')
    try:
        with pytest.raises(StorageError, match="more than 1,000,000 bytes"):
            connection.run(connection.client)
    finally:
        connection.close()
