"""Equal requests at the same time read and embed each image once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.services import Services
from taxonomist.inference.pipeline import DecodedImage, ImageSource
from taxonomist.taxonomy.errors import ImageUnavailableError
from tests.small_world import PATHS, image_bytes, publish_backbone

REQUESTS, IMAGES = 4, 20


def test_four_equal_requests_read_each_image_once(services: Services, tmp_path: Path) -> None:
    backbone = publish_backbone(services).version
    seen: Counter[str] = Counter()
    lock, start = threading.Lock(), threading.Barrier(REQUESTS)
    images = {f"image{number}": f"/data/{number}.jpg" for number in range(IMAGES)}

    def load(source: ImageSource, size: int) -> DecodedImage:
        with lock:
            seen[source.id] += 1
        time.sleep(0.02)
        if source.id == "image3":
            raise ImageUnavailableError("It is away.")
        return DecodedImage.from_bytes(image_bytes(PATHS[0], 1), size)

    def request(_: int) -> tuple[set[str], set[str]]:
        start.wait()
        embedded = embed(services, "7", images, backbone, load=load)
        return set(embedded.vectors), set(embedded.failures)

    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = list(pool.map(request, range(REQUESTS)))
    assert answers == [(set(images) - {"image3"}, {"image3"})] * REQUESTS
    assert {image: count for image, count in seen.items() if image != "image3"} == dict.fromkeys(
        set(images) - {"image3"}, 1
    )


def test_who_has_less_time_does_not_wait_longer(services: Services, tmp_path: Path) -> None:
    backbone = publish_backbone(services).version
    begun, go_on = threading.Event(), threading.Event()

    def slow(source: ImageSource, size: int) -> DecodedImage:
        begun.set()
        go_on.wait(10)
        return DecodedImage.from_bytes(image_bytes(PATHS[0], 1), size)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(embed, services, "7", {"image": "/data/1.jpg"}, backbone, load=slow)
        begun.wait(10)
        second = embed(services, "7", {"image": "/data/1.jpg"}, backbone, deadline=time.monotonic(), load=slow)
        assert second.late == ["image"]
        go_on.set()
        assert list(first.result().vectors) == ["image"]


def test_an_image_that_failed_since_its_request_had_no_time_left_is_asked_again(services: Services) -> None:
    backbone = publish_backbone(services).version
    begun, go_on = threading.Event(), threading.Event()

    def slow(source: ImageSource, size: int) -> DecodedImage:
        begun.set()
        go_on.wait(10)
        raise ImageUnavailableError("It was not complete in time.")

    def quick(source: ImageSource, size: int) -> DecodedImage:
        return DecodedImage.from_bytes(image_bytes(PATHS[0], 1), size)

    images = {"image": "/data/1.jpg"}
    with ThreadPoolExecutor(2) as pool:
        deadline = time.monotonic() + 0.5
        pool.submit(embed, services, "7", images, backbone, deadline=deadline, load=slow)
        begun.wait(10)
        second = pool.submit(embed, services, "7", images, backbone, deadline=time.monotonic() + 60, load=quick)
        time.sleep(max(0.0, deadline - time.monotonic()) + 0.1)
        go_on.set()
        assert list(second.result().vectors) == ["image"]
