"""Image hosts that hang, refuse or come back, over real sockets: who waits for them, and for how long."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from taxonomist.storage.images import loading as images_loading
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.loading import loading
from taxonomist.storage.images.memory_budget import MemoryBudget
from taxonomist.storage.network.host_breaker import HOSTS
from taxonomist.taxonomy.errors import ImageNotFoundError, ImageTooLargeError, ImageUnavailableError
from tests.storage.conftest import Handler, Web
from tests.waiting import eventually

IMAGE = b"\x89PNG" + bytes(range(256)) * 4


def silent(handler: Handler) -> None:
    handler.stopped.wait()


def trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    while not handler.stopped.wait(0.02):
        handler.wfile.write(b"x")


@pytest.fixture
def open_images(open_images: Callable[..., HttpImages]) -> Callable[..., HttpImages]:
    return partial(open_images, timeout_s=0.3)


def read(images: HttpImages, url: str, seconds: float = 60.0) -> str:
    """Return why a request gets no image, "" when it gets it."""
    with loading(time.monotonic() + seconds):
        try:
            images.read(url)
        except ImageUnavailableError as error:
            return str(error)
        except (ImageNotFoundError, ImageTooLargeError):
            return "an answer"
    return ""


@pytest.mark.parametrize("route", [silent, trickle])
def test_a_host_that_hangs_is_not_awaited_again(
    web: Web, open_images: Callable[..., HttpImages], route: Callable[[Handler], None]
) -> None:
    images = open_images(web.host)
    for number in range(20):
        web.routes[f"/{number}.jpg"] = route
    reasons = [read(images, f"{web.url}/{number}.jpg") for number in range(20)]
    assert all("was not complete within 0.3 seconds" in reason for reason in reasons[:4])
    assert all(f"{web.host} is not available" in reason for reason in reasons[4:])
    assert len(web.requests) == 4
    assert HOSTS.unavailable() == [web.host]


def test_a_host_that_refuses_connections_is_not_asked_again(open_images: Callable[..., HttpImages]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    images = open_images(host)
    reasons = [read(images, f"http://{host}/a.jpg") for _ in range(6)]
    assert all("cannot be fetched (" in reason for reason in reasons[:4])
    assert all("did not answer several times" in reason for reason in reasons[4:])


@pytest.mark.parametrize(("status", "data"), [(404, b""), (500, b"x"), (403, b""), (200, b"x" * 20_000)])
def test_an_answer_of_any_kind_means_that_the_host_is_there(
    web: Web, open_images: Callable[..., HttpImages], status: int, data: bytes
) -> None:
    images = open_images(web.host)
    web.route("/a.jpg", status, data)
    web.route("/b.jpg", data=IMAGE)
    for _ in range(6):
        with pytest.raises(Exception, match=r"a\.jpg"):
            images.read(f"{web.url}/a.jpg")
    assert read(images, f"{web.url}/b.jpg") == ""


def test_a_process_that_ends_gives_up_images_of_requests_but_not_of_jobs(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_loading, "_end", math.inf)
    images = open_images(web.host, timeout_s=60)
    asked, answer = threading.Event(), threading.Event()

    def late(handler: Handler) -> None:
        asked.set()
        assert answer.wait(60)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(IMAGE)))
        handler.end_headers()
        handler.wfile.write(IMAGE)

    web.routes["/late.jpg"], web.routes["/hangs.jpg"] = late, silent
    with ThreadPoolExecutor() as pool:
        of_a_job = pool.submit(images.read, f"{web.url}/late.jpg")
        of_a_request = pool.submit(read, images, f"{web.url}/hangs.jpg")
        eventually("both are read", lambda: asked.is_set() and len(web.requests) == 2)
        images_loading.end_awaited(time.monotonic() + 0.2)
        assert "was not complete" in of_a_request.result(50)
        assert "was not complete" in read(images, f"{web.url}/hangs.jpg")
        answer.set()
        assert of_a_job.result(50) == IMAGE


def test_one_slow_image_costs_no_other(web: Web, open_images: Callable[..., HttpImages]) -> None:
    images = open_images(web.host)
    web.routes["/slow.jpg"] = silent
    web.route("/b.jpg", data=IMAGE)
    for _ in range(5):
        assert "was not complete" in read(images, f"{web.url}/slow.jpg")
    assert read(images, f"{web.url}/b.jpg") == ""


def test_a_read_that_had_little_time_says_nothing_about_the_host(
    web: Web, open_images: Callable[..., HttpImages]
) -> None:
    images = open_images(web.host, timeout_s=20)
    for number in range(8):
        web.routes[f"/{number}.jpg"] = silent
        assert "was not complete within 0" in read(images, f"{web.url}/{number}.jpg", seconds=0.05)
    assert HOSTS.unavailable() == []


def test_a_host_that_comes_back_is_found_by_one_request(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HOSTS, "_first_pause_s", 0.2)
    images = open_images(web.host)
    for number in range(4):
        web.routes[f"/{number}.jpg"] = silent
        read(images, f"{web.url}/{number}.jpg")
    web.route("/0.jpg", data=IMAGE)
    assert "is not available" in read(images, f"{web.url}/0.jpg")
    time.sleep(0.25)
    assert read(images, f"{web.url}/0.jpg") == ""


def test_a_job_waits_for_a_host_that_starts_anew(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HOSTS, "_first_pause_s", 0.3)
    images = open_images(web.host)
    for _ in range(4):
        HOSTS.failed(web.host, "it refuses connections")
    web.route("/a.jpg", data=IMAGE)
    assert "is not available" in read(images, f"{web.url}/a.jpg")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: images.read(f"{web.url}/a.jpg"), range(16)))
    assert found == [IMAGE] * 16


def test_a_hanging_host_leaves_connections_to_others(
    start_web: Callable[[], Web], open_images: Callable[..., HttpImages]
) -> None:
    hanging, healthy = start_web(), start_web()
    images = open_images(hanging.host, healthy.host, timeout_s=5)
    healthy.route("/a.jpg", data=IMAGE)
    for number in range(100):
        hanging.routes[f"/{number}.jpg"] = silent
    threads = [
        threading.Thread(target=read, args=(images, f"{hanging.url}/{number}.jpg", 3.0)) for number in range(100)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert [read(images, f"{healthy.url}/a.jpg", 2.0) for _ in range(5)] == [""] * 5
    assert len(hanging.requests) <= 16
    for thread in threads:
        thread.join()


def test_files_share_a_budget_until_they_are_decoded(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = MemoryBudget(10_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)
    images = open_images(web.host, max_bytes=4_000_000, timeout_s=20)
    web.route("/a.jpg", data=b"x" * 3_000_000)
    web.route("/small.jpg", data=IMAGE)

    def unannounced(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x" * 3_000_000)

    web.routes["/b.jpg"] = unannounced
    with loading():
        images.read(f"{web.url}/a.jpg")
        assert budget.taken == 6_000_000
        monkeypatch.setattr(images_loading, "_WAIT_IN_LOOP_S", 0.2)
        for name in ("a", "b"):
            assert "the 10,000,000 bytes that files of images may take" in read(images, f"{web.url}/{name}.jpg")
        assert read(images, f"{web.url}/small.jpg") == ""
    assert budget.taken == 0
    for name in ("a", "b", "small"):
        assert read(images, f"{web.url}/{name}.jpg") == ""
    assert budget.taken == 0
    assert HOSTS.unavailable() == []


def in_two_parts(handler: Handler) -> None:
    """Send a file without its length, and stop in its middle."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 3_000_000)
    handler.stopped.wait()


def test_a_file_without_a_length_takes_what_it_has_so_far(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = MemoryBudget(40_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)
    images = open_images(web.host, max_bytes=50_000_000, timeout_s=8)
    web.routes["/slow.jpg"] = in_two_parts
    web.route("/b.jpg", data=b"x" * 3_000_000)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(read, images, f"{web.url}/slow.jpg", 4)
        eventually("a file is on its way", lambda: budget.taken > 0)
        assert read(images, f"{web.url}/b.jpg", seconds=2) == ""
        assert "was not complete" in slow.result()
    assert budget.taken == 0


def test_a_read_that_waited_for_memory_says_nothing_about_the_host(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = MemoryBudget(5_000_000)
    monkeypatch.setattr(images_loading, "FILES", budget)
    images = open_images(web.host, max_bytes=4_000_000)
    assert budget.take(5_000_000, 1) == 5_000_000
    for number in range(6):
        web.route(f"/{number}.jpg", data=b"x" * 2_000_000)
        assert "was not complete" in read(images, f"{web.url}/{number}.jpg")
    budget.give_back(5_000_000)
    assert HOSTS.unavailable() == []
    assert read(images, f"{web.url}/0.jpg") == ""


def test_a_try_that_had_little_time_lets_another_one_try(
    web: Web, open_images: Callable[..., HttpImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HOSTS, "_first_pause_s", 0.0001)
    images = open_images(web.host, timeout_s=20)
    for _ in range(4):
        HOSTS.failed(web.host, "it refuses connections")
    web.routes["/a.jpg"] = silent
    web.route("/b.jpg", data=IMAGE)
    assert "was not complete" in read(images, f"{web.url}/a.jpg", seconds=0.05)
    assert read(images, f"{web.url}/b.jpg") == ""
