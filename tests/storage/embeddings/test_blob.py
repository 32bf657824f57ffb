"""Embeddings in Azure: how machines share and merge them, and use copies while Azure does not answer."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import emulators
from taxonomist.storage.arrays.forgetting import forget_rows
from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.retry_policy import RetryPolicy
from taxonomist.storage.embeddings.blob import BlobEmbeddings, KnownSegments, forget_shared
from tests.fault_proxy import Fault, fault_proxy
from tests.storage.embeddings.test_folder import half, vectors
from tests.storage.workers import vector
from tests.waiting import eventually

pytestmark = pytest.mark.slow

Open = Callable[..., BlobEmbeddings]


@pytest.fixture
def container() -> str:
    return uuid4().hex


@pytest.fixture
def machine(blob_account: BlobAccount, container: str, tmp_path: Path) -> Open:
    """Opens the store on a new machine, or on the one named."""
    names = (f"machine-{number}" for number in itertools.count())

    def open_store(name: str | None = None, account: BlobAccount = blob_account, every_s: float = 0) -> BlobEmbeddings:
        folder = tmp_path / (name or next(names))
        return BlobEmbeddings(account, container, "embeddings/v1", folder, 64, share_every_s=every_s)

    return open_store


def segments(account: BlobAccount, container: str) -> list[str]:
    return [blob.name for blob in account.run(lambda: account.list(container, "embeddings/v1/"))]


def test_machines_that_append_at_once_all_get_everything(machine: Open) -> None:
    stores = [machine() for _ in range(3)]

    def work(first: int) -> None:
        for number in range(first, first + 8):
            stores[first % 3].append([f"i{number}"], vector(number)[None])

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 7, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in (*stores, machine()):
        found, matrix = store.get([f"i{number}" for number in range(22)])
        assert found.all()
        np.testing.assert_array_equal(matrix, half(*range(22)))
        assert len(store) == 22


def test_processes_of_one_machine_send_each_row_once(machine: Open, blob_account: BlobAccount, container: str) -> None:
    server, worker = machine("one"), machine("one")
    server.append(["a"], vectors(1))
    worker.append(["b"], vectors(2))
    other = machine()
    other.append(["c"], vectors(3))
    assert sorted(server.snapshot()[0]) == sorted(worker.snapshot()[0]) == ["a", "b", "c"]
    server.append(["d"], vectors(4))
    assert len(segments(blob_account, container)) == 4


def test_many_small_segments_become_one(machine: Open, blob_account: BlobAccount, container: str) -> None:
    store = machine()
    for number in range(70):
        store.append([f"i{number}"], vector(number)[None])
    assert len(segments(blob_account, container)) < 20
    np.testing.assert_array_equal(machine().get([f"i{number}" for number in range(70)])[1], half(*range(70)))
    assert len(store) == 70


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\xff" * 64])
def test_a_blob_that_is_not_a_segment_is_reported_and_kept(
    machine: Open, blob_account: BlobAccount, container: str, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    machine().append(["a"], vectors(1))
    blob_account.run(lambda: blob_account.write(container, "embeddings/v1/0.safetensors", data))
    store = machine()
    with caplog.at_level(logging.WARNING):
        assert store.get(["a"])[0].all()
        assert store.get(["x"])[0].tolist() == [False]
    assert caplog.text.count("cannot be read") == 1


def test_a_damaged_machine_gets_everything_again(machine: Open, tmp_path: Path) -> None:
    store = machine("one")
    store.append(["a", "b"], vectors(1, 2))
    for path in (tmp_path / "one").glob("vectors*"):
        path.write_bytes(b"")
    again = machine("one")
    np.testing.assert_array_equal(again.get(["a", "b"])[1], half(1, 2))


def test_beside_the_questions_it_is_shared_in_time(machine: Open) -> None:
    first, second = machine(every_s=0.2), machine(every_s=0.2)
    assert len(second) == 0
    first.append(["a"], vectors(1))
    eventually("shared", lambda: "a" in second, timeout=10)
    first.append(["b"], vectors(2))
    first.close()
    assert "b" in machine()


def test_all_goes_on_while_azure_is_away_and_is_sent_later(
    azurite: emulators.Blob, machine: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with fault_proxy(azurite.port) as proxy:
        account = BlobAccount.from_connection_string(azurite.through(proxy.port), RetryPolicy(0.5, 0.3, 0.05, 0.1))
        proxy.use(lambda request: Fault(status=503))
        cut_off = machine("one", account, 0.2)
        assert cut_off.get(["a"])[0].tolist() == [False]  # the first question waits for an answer, a while
        assert cut_off.append(["a"], vectors(1)) == 1
        assert cut_off.get(["a"])[0].all()
        cut_off.close()
        assert caplog.text.count("The last known state stays in use") == 1
        assert "a" not in machine()
        proxy.use()
        machine("one", account).get(["x"])  # the next process on that machine
        account.close()
    assert "a" in machine()


def test_forgotten_embeddings_are_gone_from_azure_and_not_sent_again(
    machine: Open, blob_account: BlobAccount, container: str, tmp_path: Path
) -> None:
    store = machine("one")
    store.append(["a", "b"], vectors(1, 2))
    store.append(["c"], vectors(3))
    unsent = machine("one", every_s=1000)
    unsent.append(["d", "e"], vectors(4, 5))
    forget_rows(tmp_path / "one", {"b", "c", "d"})
    assert forget_shared(blob_account, container, "embeddings", {"b", "c", "d"}) == 2
    store.append(["f"], vectors(6))  # sends what was not sent yet
    for reader in (store, machine()):
        found, values = reader.get(["a", "b", "c", "d", "e", "f"])
        assert found.tolist() == [True, False, False, False, True, True]
        np.testing.assert_array_equal(values[found], half(1, 5, 6))
        assert len(reader) == 3
    unsent.close()
    assert not any(segment.count(b'\\"b\\"') for segment in contents(blob_account, container))


def test_each_segment_is_read_once_however_many_images_are_forgotten(
    machine: Open, blob_account: BlobAccount, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine()
    for number in range(5):
        store.append([f"i{number}", f"j{number}", f"j{number}#1"], vectors(number, number + 10, number + 20))
    read: list[str] = []
    real = blob_account.read

    async def count(container: str, name: str) -> object:
        read.append(name)
        return await real(container, name)

    monkeypatch.setattr(blob_account, "read", count)
    known, first = KnownSegments(), set(segments(blob_account, container))
    for number in range(5):
        assert forget_shared(blob_account, container, "embeddings", {f"i{number}"}, known) == 1
        assert forget_shared(blob_account, container, "embeddings", {f"j{number}"}, known) == 2
        assert forget_shared(blob_account, container, "embeddings", {f"k{number}"}, known) == 0
    assert segments(blob_account, container) == []
    assert all(read.count(name) <= 2 for name in first)
    assert len(read) <= 5 + 2 * 5  # each once to know its images, then to cut it


def contents(account: BlobAccount, container: str) -> list[bytes]:
    return [account.run(lambda name=name: account.read(container, name)).data for name in segments(account, container)]  # type: ignore[misc]
