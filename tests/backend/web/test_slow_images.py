"""Requests whose images are on a host that never says anything: all of them are answered within their time."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import THUMBNAIL
from taxonomist.backend.web import connection
from taxonomist.inference.image_decoding import DECODING
from taxonomist.storage.images import loading
from taxonomist.storage.network.host_breaker import HOSTS
from tests.backend.web.serving import serving
from tests.small_world import CONFIG, PATHS, image_bytes
from tests.waiting import eventually

MOST_S = 15.0  # a request that ignored its deadline would take 60 seconds and more


@pytest.fixture
def host() -> Iterator[str]:
    """Yield "host:port" of a server that takes every connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def hurried(settings: Settings, trained: Services, host: str) -> Iterator[tuple[Services, str]]:
    """A server that gives a prediction two seconds and an image sixty; and its address."""
    changes = {"allowed_image_hosts": [host], "predict_deadline": 2.0, "image_timeout": 60.0}
    services = Services(settings.model_copy(update=changes))
    with serving(services, services.settings) as port:
        yield services, f"http://127.0.0.1:{port}"


def predict(site: str, uris: list[str]) -> httpx.Response:
    tasks = [{"id": number, "data": {"image": uri}} for number, uri in enumerate(uris, start=1)]
    body = {"tasks": tasks, "project": "7.1", "label_config": CONFIG}
    return httpx.post(f"{site}/predict", json=body, timeout=MOST_S)


@pytest.mark.parametrize("count", [1, 40])
def test_a_prediction_has_a_deadline_for_all_its_images(hurried: tuple[Services, str], host: str, count: int) -> None:
    services, site = hurried
    answer = predict(site, [f"http://{host}/{number}.jpg" for number in range(count)])
    assert answer.status_code == 200
    assert [result["result"] for result in answer.json()["results"]] == [[]] * count
    assert services.unfilled.count("7") == count
    assert HOSTS.unavailable() == []  # two seconds are less than the host is given


def test_a_server_that_stops_does_not_wait_for_images(
    settings: Settings, trained: Services, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a service manager would kill it before it has answered."""
    monkeypatch.setattr(connection, "STOP_S", 0.2)
    monkeypatch.setattr(loading, "_end", math.inf)
    services = Services(settings.model_copy(update={"allowed_image_hosts": [host], "image_timeout": 60.0}))
    with ThreadPoolExecutor() as pool:
        with serving(services, services.settings) as port:
            answer = pool.submit(predict, f"http://127.0.0.1:{port}", [f"http://{host}/{n}.jpg" for n in range(8)])
            eventually("the images are read", lambda: len(loading._limits) == 8)
        assert answer.result().status_code == 200
    assert services.unfilled.count("7") == 8


def test_the_page_of_look_alikes_waits_for_no_other_request(
    settings: Settings, trained: Services, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(settings.model_copy(update={"allowed_image_hosts": [host], "image_timeout": 1.0}))
    document = next(iter(services.catalog.documents("7")))
    backbone = services.registry.champion("backbone")
    assert backbone is not None
    query = f"project=7&key={services.credentials.project_key('7')}"
    with serving(services, services.settings) as port:
        site = f"http://127.0.0.1:{port}"
        page = httpx.get(f"{site}/similar?{query}&src=http://{host}/a.jpg", timeout=MOST_S)
        assert "the image cannot be read at the moment" in page.text
        # Another request embeds this image, and never gets done.
        store = services.embeddings(backbone)
        monkeypatch.setattr(store, "get", lambda ids: (np.zeros(len(ids), np.bool_), np.zeros((len(ids), 1))))
        services.embedding.claim([(backbone, document.id)])
        page = httpx.get(f"{site}/similar?{query}&src={document.projects['7'].uri}", timeout=MOST_S)
        assert "the image takes long to read. Reload the page later." in page.text


def test_what_is_not_available_is_said_and_counted(settings: Settings, trained: Services, host: str) -> None:
    services = Services(settings.model_copy(update={"allowed_image_hosts": [host], "image_timeout": 0.3}))
    key = services.credentials.project_key("7")
    with serving(services, services.settings) as port:
        site = f"http://127.0.0.1:{port}"
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda n: predict(site, [f"http://{host}/{n}-{i}.jpg" for i in range(50)]), range(4)))
        page = httpx.get(f"{site}/similar?project=7&key={key}&src=http://{host}/a.jpg", timeout=MOST_S).text
        assert "the image cannot be read at the moment" in page
        assert re.search(r"^taxonomist_unavailable_hosts 1\.0$", httpx.get(f"{site}/metrics").text, re.MULTILINE)


def test_images_wait_for_memory_as_long_as_their_request_may_take(settings: Settings, trained: Services) -> None:
    services = Services(settings.model_copy(update={"predict_deadline": 1.0, "image_timeout": 1.0}))
    labelled, *_ = services.catalog.documents("7", labelled=True)
    new = Path(labelled.projects["7"].uri).with_name("new.jpg")
    new.write_bytes(image_bytes(PATHS[0], 999))
    key = services.credentials.project_key("7", THUMBNAIL)
    with serving(services, services.settings) as port:
        site = f"http://127.0.0.1:{port}"
        thumbnail = f"{site}/thumbnail?project=7&key={key}&id={labelled.id}"
        taken = DECODING.take(DECODING.total, 1)
        assert taken
        try:
            [result] = predict(site, [str(new)]).json()["results"]
            refused = httpx.get(thumbnail, timeout=MOST_S)
        finally:
            DECODING.give_back(taken)
        assert result["result"] == []
        assert services.unfilled.count("7") == 1
        assert refused.status_code == 502
        assert predict(site, [str(new)]).json()["results"][0]["result"]
        assert httpx.get(thumbnail, timeout=MOST_S).status_code == 200
