"""Images from allowed http(s) hosts, with limits on bytes and time."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin
from weakref import WeakValueDictionary

import httpx

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.event_loop_thread import EventLoopThread
from taxonomist.storage.fork_safety import after_fork
from taxonomist.storage.images import without_query
from taxonomist.storage.images.allowed_hosts import AllowedHosts, Target
from taxonomist.storage.images.ip_networks import is_metadata, is_public
from taxonomist.storage.images.loading import (
    SMALL_FILE,
    hold_file_in_loop,
    is_awaited,
    seconds_left,
    time_limit,
    waited_for_memory,
)
from taxonomist.storage.network.host_breaker import HOSTS, Refusal
from taxonomist.storage.network.http_clients import ProxyFailure, failures_of, image_client, reason_and_fix
from taxonomist.storage.network.plain_responses import UnusableResponse, compression_of, refused_compression
from taxonomist.storage.network.proxies import Proxy, is_reached_directly, parse_proxy, proxy_for
from taxonomist.taxonomy.errors import (
    ConfigError,
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
)
from taxonomist.taxonomy.numbers import whole_number

__all__ = ["IMAGE_PROXY", "Answer", "Credential", "HttpImages", "data_of"]

IMAGE_PROXY = "TAXONOMIST_IMAGE_PROXY"
_REDIRECTS = {301, 302, 303, 307, 308}
_PATIENCE_S = 30.0  # of a job: the pauses until then are 35 s in all
_CONNECTIONS = 64
_CONNECTIONS_TO_A_HOST = 16  # so that one that hangs leaves some to others


@dataclass(frozen=True)
class Credential:
    """A header that is sent to one site only, which counts as allowed: an origin (scheme, host, port), or what is below
    a path of it."""

    origin: tuple[str, str, int]
    header: Mapping[str, str]
    path: str = ""

    def covers(self, url: str) -> bool:
        """Return whether a URL belongs to the site."""
        if not self.is_at(AllowedHosts.target(url)):
            return False
        below = httpx.URL(url).path if self.path else "/"
        return below.startswith(f"{self.path}/") and ".." not in below.split("/")

    def is_at(self, target: Target) -> bool:
        """Return whether a target is the site's origin, or the https of an http origin, both on their default ports."""
        return target.origin == self.origin or (
            self.origin == ("http", target.host, 80) and target.origin == ("https", target.host, 443)
        )


@dataclass(frozen=True)
class Answer:
    """The response of the last server: its status, the body (empty unless the status is 200), URL and target."""

    status: int
    data: bytes
    url: str
    target: Target


class _NotAskedError(ImageUnavailableError):
    """The host of an image is not asked now."""

    def __init__(self, url: str, refusal: Refusal) -> None:
        super().__init__(f"The image at {without_query(url)} cannot be fetched: {refusal}.")
        self.refusal = refusal


class HttpImages:
    """`Images` by http and https.

    Each redirect, at most `max_redirects`, is checked like the first address. `max_bytes` limits the bytes that are
    really read, `timeout_s` the time from the first name lookup to the last byte, and `loading` that of all reads of a
    request. A host that does not answer is not asked for a while (`HostBreaker`).

    Only the origin of a credential, which is Label Studio's, is reached through the proxies of the environment. Others
    are reached through `proxy`, and then only hosts that are named in full: a proxy looks up names without our checks.
    Hosts in `NO_PROXY` are reached directly. Raises `ConfigError` when `proxy` is not the address of a proxy.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str],
        max_bytes: int,
        timeout_s: float = 20.0,
        *,
        max_redirects: int = 5,
        proxy: str | None = None,
    ) -> None:
        self._hosts = AllowedHosts(allowed_hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_redirects = max_redirects
        self._proxy = parse_proxy(proxy, IMAGE_PROXY) if proxy else None
        self._loop = EventLoopThread()
        self._forget()
        after_fork(self._forget)

    def _forget(self) -> None:
        self._clients: dict[tuple[bool, Proxy | None], httpx.AsyncClient] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            self._loop.run(client.aclose)
        self._loop.close()

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        return data_of(self.fetch(parse_address(uri).url or uri), uri)

    def fetch(self, url: str, credential: Credential | None = None) -> Answer:
        """Return the answer after all redirects. Raises what `Images.read` raises, but not for the status.

        While a host is not asked, an image with a deadline fails at once. One without, such as that of a job, waits for
        the end of a short pause, so that a host that restarts costs the job no image.
        """
        while True:
            try:
                return self._loop.run(lambda: self._fetch_in_time(url, credential))
            except _NotAskedError as error:
                if is_awaited() or error.refusal.pause_s > _PATIENCE_S:
                    raise
                time.sleep(error.refusal.wait_s)

    async def _fetch_in_time(self, url: str, credential: Credential | None) -> Answer:
        time_s = seconds_left(self._timeout_s)
        began = time.monotonic()
        try:
            async with time_limit(time_s):
                return await self._follow(url, credential, is_patient=time_s > self._timeout_s / 2)
        except ConfigError as error:  # a variable of the environment names no usable certificate or proxy
            raise ImageUnavailableError(
                f"The image at {without_query(url)} cannot be fetched: {error.args[0]}", hint=error.hint
            ) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            took_s = min(time_s, time.monotonic() - began)
            raise ImageUnavailableError(
                f"The image at {without_query(url)} was not complete within {round(took_s, 1):g} seconds.",
                hint=self._proxy_hint(url),
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            reason, fix = reason_and_fix(error)
            raise ImageUnavailableError(
                f"The image at {without_query(url)} cannot be fetched ({reason}).", hint=fix or self._proxy_hint(url)
            ) from error

    def _proxy_hint(self, url: str) -> str | None:
        """Return a hint where the environment names a proxy for other clients, None where it does not."""
        try:
            proxy = proxy_for(url) if self._proxy is None else None
        except (ConfigError, ValueError):
            return None
        return f"Images are not read through {proxy}: set {IMAGE_PROXY} if they need a proxy." if proxy else None

    async def _follow(self, url: str, credential: Credential | None, *, is_patient: bool) -> Answer:
        for _ in range(self._max_redirects + 1):
            target = self._allowed(url, credential)
            own = credential is not None and credential.covers(url)
            headers = dict(credential.header) if credential is not None and own else {}
            proxy = proxy_for(url) if own else self._image_proxy(target)
            async with self._asking(target.place, url, is_patient=is_patient):
                step = await self._step(url, target, headers, proxy, by_name=own or proxy is not None)
            if isinstance(step, Answer):
                return step
            url = urljoin(url, step)
        raise ImageUnavailableError(
            f"The image at {without_query(url)} is behind more than {self._max_redirects} redirects."
        )

    @asynccontextmanager
    async def _asking(self, host: str, url: str, *, is_patient: bool) -> AsyncIterator[None]:
        """Let the block ask the host, and remember whether it answered. Raises `ImageUnavailableError` when it is not
        asked now. A request that had less than half of the usual time says nothing about the host."""
        turn = self._turns.get(host) or asyncio.Semaphore(_CONNECTIONS_TO_A_HOST)
        self._turns[host] = turn
        async with turn:
            if refusal := HOSTS.refusal(host):
                raise _NotAskedError(url, refusal)
            is_known = False
            try:
                yield
            except httpx.PoolTimeout:
                raise
            except (ImageTooLargeError, UnusableResponse):
                is_known = True
                HOSTS.answered(host)
                raise
            except (asyncio.CancelledError, httpx.TimeoutException):
                if is_known := is_patient and not waited_for_memory():
                    HOSTS.failed(host, "no whole answer in time", url)
                raise
            except (httpx.TransportError, OSError) as error:
                is_known = True
                HOSTS.failed(host, reason_and_fix(error)[0])
                raise
            else:
                is_known = True
                HOSTS.answered(host)
            finally:
                if not is_known:
                    HOSTS.left(host)

    def _allowed(self, url: str, credential: Credential | None) -> Target:
        if credential is not None and credential.covers(url):
            return AllowedHosts.target(url)
        return self._hosts.check(url)

    def _image_proxy(self, target: Target) -> Proxy | None:
        """Return the proxy for a target that is not Label Studio, None for a direct connection."""
        if self._proxy is None or is_reached_directly(target.host, target.port):
            return None
        if target.public_only:
            raise ImageForbiddenError(
                f"Images of {target.host} are not read through {self._proxy}: no entry names this host in full, and "
                "addresses behind a proxy cannot be checked.",
                hint=f'Add "{target.host}" itself to TAXONOMIST_ALLOWED_IMAGE_HOSTS if you trust it.',
            )
        return self._proxy

    async def _step(
        self, url: str, target: Target, headers: dict[str, str], proxy: Proxy | None, *, by_name: bool
    ) -> Answer | str:
        """Return the answer, or the address to which it redirects. With `by_name` the connection looks up the host."""
        parsed = httpx.URL(url)
        # Two parsers read the address: urlsplit for the check, httpx for the request. They must agree on the host.
        if target.host not in (parsed.host.rstrip("."), parsed.raw_host.decode("ascii")):
            raise ImageForbiddenError(f"The host of {without_query(url)} is ambiguous.")
        if by_name:
            return await self._get(url, target, parsed, headers, proxy=proxy)
        # Connect to the checked IP address, because a second lookup could return another one.
        headers = headers | {"Host": parsed.netloc.decode("ascii")}
        refused: httpx.ConnectError | None = None
        for address in await _checked_addresses(target):
            try:
                return await self._get(
                    url, target, parsed.copy_with(host=address), headers, sni=parsed.raw_host.decode("ascii")
                )
            except httpx.ConnectError as error:
                refused = error
        assert refused is not None
        raise refused

    async def _get(
        self,
        url: str,
        target: Target,
        at: httpx.URL,
        headers: dict[str, str],
        *,
        sni: str | None = None,
        proxy: Proxy | None = None,
    ) -> Answer | str:
        client = self._http(at.scheme == "https", proxy)
        request = client.build_request("GET", at, headers=headers, extensions={"sni_hostname": sni} if sni else {})
        with failures_of(proxy, target.host):
            response = await client.send(request, stream=True)
        try:
            if proxy is not None and response.status_code == 407:
                raise ProxyFailure("407 Proxy Authentication Required", proxy, target.host)
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return str(response.headers["location"])
            data = await self._body(response, url) if response.status_code == 200 else b""
            return Answer(response.status_code, data, url, target)
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response, url: str) -> bytes:
        if compression := compression_of(response.headers.get("content-encoding")):
            raise UnusableResponse(refused_compression(response.request.url.host, compression))
        announced = response.headers.get("content-length", "")
        length = whole_number(announced)
        if announced.isdigit() and (length is None or length > self._max_bytes):
            raise self._too_large(url)
        held = length or SMALL_FILE
        await hold_file_in_loop(held)
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > self._max_bytes:
                raise self._too_large(url)
            if len(data) > held:  # its length is not announced
                held = min(4 * held, self._max_bytes)
                await hold_file_in_loop(held)
        return bytes(data)

    def _too_large(self, url: str) -> ImageTooLargeError:
        return ImageTooLargeError(
            f"The image at {without_query(url)} has more than {self._max_bytes:,} bytes.",
            hint="Raise TAXONOMIST_MAX_IMAGE_BYTES or shrink the image.",
        )

    def _http(self, is_secure: bool, proxy: Proxy | None) -> httpx.AsyncClient:
        # Only called in the loop's thread.
        if (is_secure, proxy) not in self._clients:
            self._clients[is_secure, proxy] = image_client(
                proxy,
                is_secure=is_secure,
                timeout=self._timeout_s,
                limits=httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=10),
            )
        return self._clients[is_secure, proxy]


def data_of(answer: Answer, uri: str) -> bytes:
    """Return the body of an answer with status 200. Raises the fitting `ImageError` for any other status."""
    where = f"The image at {without_query(uri)}"
    match answer.status:
        case 200 if answer.data:
            return answer.data
        case 404 | 410:
            raise ImageNotFoundError(f"{where} does not exist (status {answer.status}).")
        case 401 | 403 | 407 | 451:
            raise ImageForbiddenError(
                f"{where} may not be read: {answer.target.host} answered {answer.status}.",
                hint="Check the token, and whether the link has expired.",
            )
        case 200:
            raise ImageUnavailableError(f"{where} is empty.")
        case status:
            raise ImageUnavailableError(f"{where} is not available: {answer.target.host} answered {status}.")


async def _checked_addresses(target: Target) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if metadata := [address for address in addresses if is_metadata(address)]:
        raise ImageForbiddenError(f"{target.host} resolves to {metadata[0]}, where machines find credentials.")
    private = [address for address in addresses if not is_public(address)] if target.public_only else []
    if private or not addresses:
        raise ImageForbiddenError(
            f"{target.host} resolves to {', '.join(private) or 'nothing'}, which is not a public address.",
            hint=f'Add "{target.host}" itself to TAXONOMIST_ALLOWED_IMAGE_HOSTS if you trust it.',
        )
    return [f"[{address}]" if ":" in address else address for address in dict.fromkeys(addresses)]
