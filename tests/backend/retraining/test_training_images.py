"""The images of one training: decoded once, kept in a temporary file, and without it when the disk is full."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from taxonomist.backend.retraining.training_images import TrainingImages
from taxonomist.backend.services import Services
from taxonomist.backend.state.image_folders import image_folder
from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.inference.pipeline import ImageSource
from taxonomist.taxonomy.errors import ImageDecodingError
from tests.backend.retraining.counting import Counts, count_work
from tests.images import encoded


@pytest.fixture
def source(services: Services, tmp_path: Path) -> ImageSource:
    """An image of 40 x 30 pixels in the folder of project "7"."""
    services.settings.home.mkdir()
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    (folder / "a.png").write_bytes(encoded(Image.fromarray(pixels)))
    services.projects.update("7", image_folders=(image_folder(folder),))
    return ImageSource("a", str(folder / "a.png"), "7")


@pytest.fixture
def counts(services: Services, monkeypatch: pytest.MonkeyPatch) -> Counts:
    return count_work(services, monkeypatch)


def expected(source: ImageSource, size: int) -> NDArray[np.uint8]:
    return prepare_image(decode_image(Path(source.uri).read_bytes()), size)


def test_a_kept_image_is_decoded_once_for_all_sizes(services: Services, source: ImageSource, counts: Counts) -> None:
    with TrainingImages(services, {8, 16}) as images:
        first = images.load_and_keep(source, 16)
        again, other = images.load(source, 16), images.load(source, 8)
        assert images.file_hashes == {"a": first.file_hash}
    assert list(counts.reads.values()) == list(counts.decodes.values()) == [1]
    for image, size in ((first, 16), (again, 16), (other, 8)):
        np.testing.assert_array_equal(image.pixels, expected(source, size))
        assert (image.width, image.height, image.file_hash) == (40, 30, first.file_hash)


def test_loading_alone_keeps_nothing(services: Services, source: ImageSource, counts: Counts) -> None:
    with TrainingImages(services, {16}) as images:
        images.load(source, 16)
        images.load(source, 16)
    assert list(counts.reads.values()) == [2]


def test_without_room_images_are_decoded_again(
    services: Services, source: ImageSource, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    with TrainingImages(services, {8, 16}, keep_free=10**18) as images:
        images.load_and_keep(source, 16)
        np.testing.assert_array_equal(images.load(source, 8).pixels, expected(source, 8))
    assert list(counts.decodes.values()) == [2]
    assert caplog.text.count("no longer kept") == 1


def test_an_unreadable_image_is_tried_once(services: Services, source: ImageSource, counts: Counts) -> None:
    Path(source.uri).write_bytes(b"broken")
    with TrainingImages(services, {16}) as images:
        for load in (images.load_and_keep, images.load):
            with pytest.raises(ImageDecodingError, match="not an image"):
                load(source, 16)
    assert list(counts.reads.values()) == [1]


def test_nothing_is_left_in_the_home_folder(services: Services, source: ImageSource) -> None:
    before = sorted(services.settings.home.iterdir())
    with TrainingImages(services, {16}) as images:
        images.load_and_keep(source, 16)
        assert [path for path in services.settings.home.iterdir() if path.name.startswith("training-")] == []
    assert sorted(services.settings.home.iterdir()) == before
