"""Small images for pages: decoded and encoded anew, so that nothing of a file but its pixels reaches a browser."""

from __future__ import annotations

import io
import time
from functools import cache, lru_cache

from PIL import Image, ImageDraw

from taxonomist.backend.services import Services
from taxonomist.inference.image_decoding import decoded
from taxonomist.storage.images.loading import loading

SMALL_PX, LARGE_PX = 240, 960


@cache
def unreadable_image() -> bytes:
    """Return what stands for an image that cannot be read: a grey JPEG with a cross."""
    image, out = Image.new("RGB", (SMALL_PX, SMALL_PX), (225, 222, 213)), io.BytesIO()
    draw, edge = ImageDraw.Draw(image), SMALL_PX // 3
    draw.line((edge, edge, SMALL_PX - edge, SMALL_PX - edge), fill=(107, 104, 96), width=6)
    draw.line((edge, SMALL_PX - edge, SMALL_PX - edge, edge), fill=(107, 104, 96), width=6)
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


class Thumbnails:
    """The thumbnails of one server; it keeps the last ones that it made."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._made = {SMALL_PX: lru_cache(1024)(self._jpeg), LARGE_PX: lru_cache(32)(self._jpeg)}

    def jpeg(self, project: str, uri: str, file_hash: str | None, *, large: bool = False) -> bytes:
        """Return an image of a project as JPEG of at most `SMALL_PX` or `LARGE_PX` pixels.

        `file_hash` tells it from a former file at the same address. Raises `ImageUnavailableError` or `ImageError`.
        """
        px = LARGE_PX if large else SMALL_PX
        return self._made[px](project, uri, file_hash, px)

    def _jpeg(self, project: str, uri: str, file_hash: str | None, px: int) -> bytes:  # noqa: ARG002
        settings = self._services.settings
        with (
            loading(time.monotonic() + settings.image_timeout),
            decoded(
                self._services.images(project).read(uri), max_pixels=settings.max_image_pixels, min_side=2 * px
            ) as (image, _, _),
        ):
            image.thumbnail((px, px))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=85)
            return out.getvalue()
