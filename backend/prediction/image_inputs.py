"""Images that a caller passes in, such as files of this machine: they are read and embedded, and nothing is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taxonomist.backend.services import Services
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.inference.pipeline import EMBEDDING, DecodedImage, ImageFailure, ImageResult, process_images
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.addresses import file_path
from taxonomist.taxonomy.errors import ImageDecodingError, ImageUnavailableError, TaxonomistError

ImageInput: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A file, an address that the project may read (`https://…`, `s3://…`, `/data/upload/…`), the bytes of a file, a Pillow
image, or an array uint8 (height, width, 3)."""


@dataclass(frozen=True)
class EmbeddedInputs:
    """The embeddings (n, d) of the inputs that could be read, in order, and the error of each other input.

    `positions` (n) are those of the embedded inputs, `file_hashes` (n) the sha256 of their files; `errors` is by
    position.
    """

    positions: list[int]
    file_hashes: list[str]
    vectors: NDArray[np.float32]
    errors: dict[int, TaxonomistError]


def embed_inputs(
    services: Services,
    project: str,
    images: Sequence[ImageInput],
    backbone: str,
    progress: CountProgress = ignore_counts,
) -> EmbeddedInputs:
    """Return the embeddings of `images`, in the embedder's full precision. Nothing is stored."""
    embedder = services.embedder(backbone)
    positions: list[int] = []
    file_hashes: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    errors: dict[int, TaxonomistError] = {}

    def load(position: int) -> DecodedImage:
        return _load(services, project, images[position], embedder.size)

    with closing(process_images(range(len(images)), load, embedder)) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, ImageResult):
                positions.append(outcome.source)
                file_hashes.append(outcome.image.file_hash)
                vectors.append(outcome.vectors)
            elif isinstance(outcome, ImageFailure):
                errors[outcome.source] = outcome.error
            if done % EMBEDDING.batch == 0 or done == len(images):
                progress(done, len(images))
    matrix = np.concatenate(vectors) if vectors else np.empty((0, embedder.dimension), np.float32)
    return EmbeddedInputs(positions, file_hashes, matrix, errors)


def _load(services: Services, project: str, image: ImageInput, size: int) -> DecodedImage:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageDecodingError(
                f"The array is {image.dtype} {image.shape}.", hint="Pass uint8 of the shape (height, width, 3)."
            )
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        return DecodedImage(prepare_image(image, size), hashlib.sha256(image.tobytes()).hexdigest(), *image.size)
    data = image if isinstance(image, bytes) else _read(services, project, image)
    return DecodedImage.from_bytes(data, size, max_pixels=services.settings.max_image_pixels)


def _is_address(text: str) -> bool:
    """Return whether a text is the address of an image, as `data query` and the summaries show it, not a path."""
    return "://" in text or file_path(text) != text or (text.startswith("/data/") and not Path(text).exists())


def _read(services: Services, project: str, image: str | Path) -> bytes:
    if isinstance(image, str) and _is_address(image):
        return services.images(project).read(image)
    try:
        return Path(image).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageUnavailableError(f"{image}: {reason}") from error
