"""A check of images that are one image here, although they are read from different places.

An upload or a local file counts without the host, because a Label Studio may have several addresses and may move. So
the same path in two Label Studios is one image, whose embedding is that of the file that was read first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

from taxonomist.backend.connection.doctor.result import Check, passed, warned
from taxonomist.backend.services import Services
from taxonomist.storage.addresses import parse_address
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages

NAME = "one image in several Label Studios"
_SERVED = re.compile(r"/data/(?:upload|local-files)\b")
_UNIQUE = re.compile(r"\d+/[0-9a-f]{8}-")  # no two uploads have the same eight digits and the same name


def checks(services: Services, project: str) -> Iterator[Check]:
    """Yield whether images of the project share their id with images that are read from another place.

    Most projects have no image of which that could be true; then nothing is yielded.
    """
    rows = services.journal.counts.addresses_without_host(project)
    places: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    with ExitStack() as stack:
        reader = _Places(services, stack.enter_context(HttpImages([], 1)))
        for image, of_project, uri in rows:
            address = parse_address(uri)
            if address.kind == "local-files" or (address.kind == "upload" and not _UNIQUE.match(address.name)):
                places.setdefault(image, set()).update(reader.of(of_project, uri))
                names[image] = address.name
    shared = sorted(image for image, found in places.items() if len(found) > 1)
    if not shared:
        if places:
            yield passed(NAME, "none")
        return
    first = shared[0]
    yield warned(
        NAME,
        f"{len(shared)} counted as one, such as {names[first]}, read from {' and from '.join(sorted(places[first]))}",
        "If that is one Label Studio, connect all projects at one address. If not, use a home for each "
        "(TAXONOMIST_HOME), or give the files other names: until then they share an embedding.",
    )


class _Places:
    """From where the images of projects are read."""

    def __init__(self, services: Services, http: HttpImages) -> None:
        self._services = services
        self._http = http
        self._known: dict[str, tuple[LabelStudioImages, str] | None] = {}
        self._servers: dict[str, str] = {}  # the name of each address of a Label Studio that a project is connected to

    def of(self, project: str, uri: str) -> list[str]:
        """Return the address of what serves an image; empty where that is not known."""
        if project not in self._known:
            self._known[project] = self._label_studio(project)
        known, url = self._known[project], parse_address(uri).url
        if known is not None and known[0].owns(uri):
            return [known[1]]
        return [] if url.startswith("/") else [_SERVED.split(url, maxsplit=1)[0]]

    def _label_studio(self, project: str) -> tuple[LabelStudioImages, str] | None:
        url, _ = self._services.label_studio(project)
        if url is None:
            return None
        others = self._services.label_studio_addresses(project)
        addresses = [address.rstrip("/") for address in (url, *others)]
        name = next((self._servers[address] for address in addresses if address in self._servers), addresses[0])
        self._servers |= dict.fromkeys(addresses, name)
        return LabelStudioImages(url, str, self._http, other_urls=others), name
