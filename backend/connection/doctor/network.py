"""Checks of certificates and proxies, as far as the environment or a setting names them."""

from __future__ import annotations

from collections.abc import Iterator

from taxonomist.backend.connection.doctor.result import Check, failure, passed, warned
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.images.http import IMAGE_PROXY
from taxonomist.storage.network.certificates import authority_files, certificates
from taxonomist.storage.network.proxies import parse_proxy, proxy_for
from taxonomist.taxonomy.errors import ConfigError

_HOSTS = "TAXONOMIST_ALLOWED_IMAGE_HOSTS"


def checks(services: Services) -> Iterator[Check]:
    """Yield the checks; none where nothing is named."""
    yield from _certificates()
    yield from _proxies(services)
    yield from _image_proxy(services.settings)


def _certificates() -> Iterator[Check]:
    files = authority_files()
    if not files:
        return
    try:
        certificates()
    except ConfigError as error:
        yield failure("certificates", error)
        return
    yield passed("certificates", f"those of {', '.join(map(str, files))} are trusted besides the public ones")


def _proxies(services: Services) -> Iterator[Check]:
    addresses = {services.settings.label_studio_url, *(record.label_studio_url for record in services.projects)}
    for url in sorted(filter(None, addresses)):
        try:
            proxy = proxy_for(url)
        except ConfigError as error:
            yield failure(f"proxy for {url}", error)
            continue
        if proxy is not None:
            yield passed(f"proxy for {url}", f"is {proxy.host}:{proxy.port} ({proxy.variable})")


def _image_proxy(settings: Settings) -> Iterator[Check]:
    if settings.image_proxy is None:
        return
    proxy = parse_proxy(settings.image_proxy.get_secret_value(), IMAGE_PROXY)
    partial = [entry for entry in settings.allowed_image_hosts if "*" in entry]
    if partial:
        yield warned(
            "image proxy",
            f"no image is read through {proxy} from hosts that only {', '.join(partial)} allows",
            f"name these hosts in full in {_HOSTS}",
        )
    elif not settings.allowed_image_hosts:
        yield warned("image proxy", f"no image is read through {proxy}, since {_HOSTS} names no host", f"set {_HOSTS}")
    else:
        yield passed("image proxy", f"images are read through {proxy}")
