"""The console's files. The address of each has a hash of its content, so that browsers may keep it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flask import Response
from flask.typing import ResponseReturnValue

from taxonomist.backend.web.console.pages.addresses import relative_to_root
from taxonomist.taxonomy.errors import NotFoundError

_STATIC = Path(__file__).parents[1] / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class _Asset:
    digest: str
    content: bytes
    kind: str


class Assets:
    """The files of the folder `static`, read once."""

    def __init__(self) -> None:
        found = {path.name: path.read_bytes() for path in _STATIC.iterdir() if path.suffix in _TYPES}
        self._assets = {
            name: _Asset(sha256(content).hexdigest()[:16], content, _TYPES[Path(name).suffix])
            for name, content in found.items()
        }

    def link(self, name: str) -> str:
        """Return the relative address of a file from the page of this request."""
        return relative_to_root(f"assets/{self._assets[name].digest}/{name}")

    def answer(self, digest: str, name: str) -> ResponseReturnValue:
        """Return a file. Raises `NotFoundError`."""
        found = self._assets.get(name)
        if found is None:
            raise NotFoundError("There is no such file.")
        response = Response(found.content, content_type=found.kind)
        is_this = digest == found.digest
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_this else "no-cache"
        return response
