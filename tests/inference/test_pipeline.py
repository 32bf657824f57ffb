"""The image pipeline: order, bounds, isolation of failures, deadline, and embeddings."""

import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from taxonomist.inference.embedder import Embedder, give_way
from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.inference.pipeline import (
    DecodedImage,
    ImageFailure,
    ImageResult,
    ImageSource,
    LateImage,
    PipelineOptions,
    in_batches,
    process_images,
)
from taxonomist.taxonomy.errors import ImageDecodingError, ImageNotFoundError, ImageUnavailableError
from tests.images import encoded

SIZE = 4


@dataclass(frozen=True)
class Pixels:
    pixels: NDArray[Any]


def grey(value: int) -> Pixels:
    return Pixels(np.full((SIZE, SIZE, 3), value, np.uint8))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose embedding (1,) is the mean of all pixels."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("ReduceMean", ["flat"], ["embedding"], axes=[1], keepdims=1),
        ],
        "mean",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 1])],
    )
    path = tmp_path_factory.mktemp("model") / "backbone.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture(scope="module")
def embedder(model_file: Path) -> Embedder:
    return Embedder(model_file)


def test_a_decoded_image_is_what_serving_sees_and_describes_its_file() -> None:
    data = encoded(Image.new("RGB", (40, 30), (200, 30, 30)), "JPEG")
    image = DecodedImage.from_bytes(data, 16)
    np.testing.assert_array_equal(image.pixels, prepare_image(decode_image(data), 16))
    assert (image.file_hash, image.width, image.height) == (sha256(data).hexdigest(), 40, 30)
    with pytest.raises(ImageDecodingError, match="At most 1,000"):
        DecodedImage.from_bytes(data, 16, max_pixels=1000)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_results_are_in_order_each_with_its_own_embedding(embedder: Embedder, batch: int) -> None:
    def load(value: int) -> Pixels:
        time.sleep(0.01 * (value % 3))  # later ones are ready earlier
        return grey(value)

    outcomes = list(process_images(range(20), load, embedder, options=PipelineOptions(threads=4, batch=batch)))
    assert [(o.source, o.vectors.tolist()) for o in outcomes if isinstance(o, ImageResult)] == [
        (value, [[value]]) for value in range(20)
    ]


def test_an_image_with_views_has_an_embedding_of_each(embedder: Embedder) -> None:
    def load(count: int) -> Pixels:
        return Pixels(np.stack([grey(10 * count + number).pixels for number in range(count)]))

    outcomes = process_images([1, 3, 2], load, embedder)
    vectors = [outcome.vectors[:, 0].tolist() for outcome in outcomes if isinstance(outcome, ImageResult)]
    assert vectors == [[10], [30, 31, 32], [20, 21]]


def test_without_an_embedder_nothing_is_embedded() -> None:
    (outcome,) = process_images([7], grey)
    assert isinstance(outcome, ImageResult)
    assert outcome.vectors.size == 0
    assert (outcome.image.pixels == 7).all()


def test_a_bad_image_costs_only_itself(embedder: Embedder, caplog: pytest.LogCaptureFixture) -> None:
    missing = ImageNotFoundError("It is not there.")

    def load(source: ImageSource) -> Pixels:
        if source.id == "b":
            raise missing
        if source.id == "c":
            raise ZeroDivisionError
        return grey(9)

    sources = [ImageSource(name, f"http://images/{name}?signature=secret", "7") for name in "abcd"]
    with caplog.at_level(logging.ERROR):
        first, second, third, fourth = process_images(sources, load, embedder)
    assert isinstance(first, ImageResult)
    assert isinstance(fourth, ImageResult)
    assert fourth.vectors.tolist() == [[9]]
    assert second == ImageFailure(sources[1], missing)
    assert isinstance(third, ImageFailure)
    assert isinstance(third.error, ImageUnavailableError)
    assert str(third.error) == "Unexpected error: ZeroDivisionError."
    assert [record.getMessage() for record in caplog.records] == ["unexpected error while loading image c of project 7"]
    assert "secret" not in caplog.text


def test_only_bad_images_need_no_embedding(embedder: Embedder) -> None:
    def load(source: str) -> Pixels:
        raise ImageNotFoundError(source)

    assert [type(outcome) for outcome in process_images("abc", load, embedder)] == [ImageFailure] * 3
    assert list(process_images([], load, embedder)) == []


def test_loading_is_parallel_and_stays_within_the_window() -> None:
    options = PipelineOptions(threads=3, batch=5)
    begun: list[int] = []
    lock, all_threads = threading.Lock(), threading.Barrier(3)

    def load(number: int) -> Pixels:
        with lock:
            begun.append(number)
        if number < 3:
            all_threads.wait(30)  # breaks when fewer than three load at the same time
        return grey(number)

    threads = threading.active_count()
    with closing(process_images(iter(range(1000)), load, options=options)) as outcomes:
        for taken, _ in zip(range(1, 11), outcomes, strict=False):
            assert len(begun) <= taken + options.window
    assert len(begun) <= 10 + options.window
    assert options.window == 6
    assert threading.active_count() == threads


def test_no_image_is_begun_after_the_deadline(embedder: Embedder) -> None:
    begun: list[int] = []
    deadline = time.monotonic() + 0.2

    def load(number: int) -> Pixels:
        begun.append(number)
        if number == 1:
            time.sleep(0.3)
        return grey(number)

    options = PipelineOptions(threads=1, batch=4)
    outcomes = list(process_images(range(6), load, embedder, options=options, deadline=deadline))
    assert begun == [0, 1]
    assert [type(outcome) for outcome in outcomes] == [ImageResult, ImageResult] + [LateImage] * 4
    assert [outcome.source for outcome in outcomes] == list(range(6))


def test_batches() -> None:
    assert list(in_batches(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(in_batches([], 2)) == []


def test_files_of_a_folder(tmp_path: Path, embedder: Embedder) -> None:
    paths = []
    for value in (10, 200):
        paths.append(tmp_path / f"{value}.png")
        paths[-1].write_bytes(encoded(Image.new("RGB", (9, 9), (value, value, value))))

    def load(path: Path) -> DecodedImage:
        return DecodedImage.from_bytes(path.read_bytes(), SIZE)

    results = [outcome for outcome in process_images(paths, load, embedder) if isinstance(outcome, ImageResult)]
    assert [result.vectors.item() for result in results] == [10, 200]
    assert [result.image.width for result in results] == [9, 9]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_many_images_give_way_to_requests() -> None:
    def priority(_source: int = 0) -> Pixels:
        return grey(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    own = priority().pixels[0, 0, 0]
    with closing(process_images([1], priority)) as one:
        assert [result.image.pixels[0, 0, 0] for result in one if isinstance(result, ImageResult)] == [own]
    with closing(process_images([1, 2, 3], priority)) as several:
        found = [int(result.image.pixels[0, 0, 0]) for result in several if isinstance(result, ImageResult)]
    assert found == [max(own, 5)] * 3
    assert priority().pixels[0, 0, 0] == own


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_threads_of_an_embedder_give_way_to_requests(model_file: Path) -> None:
    def threads() -> dict[int, int]:
        found = (int(path.name) for path in Path("/proc/self/task").iterdir())
        return {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in found}

    before, own = threads(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    embedder = Embedder(model_file, threads=3)
    new = {thread: nice for thread, nice in threads().items() if thread not in before}
    assert len(new) >= 2, "the caller itself is the third"
    assert set(new.values()) == {max(own, 5)}
    assert threads()[threading.get_native_id()] == own
    assert embedder.size == SIZE


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="there is one core only"
)
def test_threads_of_an_embedder_may_run_on_each_core(model_file: Path) -> None:
    """One that is bound to the core of the thread that calls waits for it: a prediction took half as long again."""
    before = {path.name for path in Path("/proc/self/task").iterdir()}
    embedder = Embedder(model_file)
    new = {path.name for path in Path("/proc/self/task").iterdir()} - before
    assert new
    assert [os.sched_getaffinity(int(thread)) for thread in new] == [os.sched_getaffinity(0)] * len(new)
    assert embedder.size == SIZE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_a_thread_that_gave_way_before_keeps_its_priority() -> None:
    def lowered() -> list[int]:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 11)
        give_way()
        return [os.getpriority(os.PRIO_PROCESS, thread)]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lowered).result() == [11]
