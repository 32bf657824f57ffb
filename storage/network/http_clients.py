"""Clients of httpx: for Label Studio, our own server and downloads (`http_client`), and for images (`image_client`)."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import httpx

from taxonomist.storage.network.certificates import certificates, untrusted
from taxonomist.storage.network.plain_responses import MAX_RESPONSE_BYTES, PLAIN, UnusableResponse, bounded
from taxonomist.storage.network.proxies import Proxy, proxy_for
from taxonomist.taxonomy.errors import TaxonomistError

__all__ = [
    "ProxyFailure",
    "RedirectedElsewhere",
    "failures_of",
    "forwarding_transport",
    "http_client",
    "image_client",
    "reason_and_fix",
]

_ON = {301: 308, 302: 307}
"""httpx, as browsers do, turns a POST into a GET after 301 and 302, but not after the statuses that mean the same."""


class RedirectedElsewhere(httpx.TransportError):
    """A server has redirected a request to another server, or in a way that would lose its method.

    `base` is the address at which the same server may be reached, as far as the redirect says.
    """

    def __init__(self, request: httpx.Request, target: httpx.URL, base: str) -> None:
        self.base = base
        self.is_downgrade = request.url.scheme == "https" and target.scheme == "http"
        shown = target.copy_with(query=None, fragment=None, userinfo=b"")  # a query may have secrets
        super().__init__(f"{_origin(request.url)} redirects {request.method} to {shown}", request=request)


class ProxyFailure(httpx.ProxyError):
    """A proxy was not reached, or did not let a request through."""

    def __init__(self, error: Exception | str, proxy: Proxy, host: str) -> None:
        self.proxy, self.host = proxy, host
        cause = str(error) or type(error).__name__
        super().__init__(f"{cause}, through {proxy}")


def http_client(
    base_url: str = "",
    *,
    timeout: float | httpx.Timeout,
    auth: httpx.Auth | None = None,
    headers: Mapping[str, str] | None = None,
    stay: bool = True,
    max_bytes: int = MAX_RESPONSE_BYTES,
) -> httpx.Client:
    """Return a client with the certificates of `certificates` and the proxies of `proxy_for`. The caller closes it.

    It follows redirects of the same server and keeps the method. With `stay` it follows no others, but from http to
    https of the same host, and raises `RedirectedElsewhere`: a request may hold a token or a password. Without `stay`
    it follows all redirects as a browser does. A request raises `ConfigError` when a variable of the environment names
    a certificate or a proxy that cannot be used, and `UnusableResponse` for a response that is compressed or has more
    than `max_bytes`.
    """
    return httpx.Client(
        base_url=base_url,
        auth=auth,
        headers=headers,
        timeout=timeout,
        follow_redirects=True,
        trust_env=False,
        transport=_Transport(max_bytes),
        event_hooks={"response": [partial(_stay, httpx.URL(base_url))] if stay else []},
    )


def image_client(proxy: Proxy | None, *, is_secure: bool, timeout: float, limits: httpx.Limits) -> httpx.AsyncClient:
    """Return a client for images through this proxy. It follows no redirect, since the caller checks each one.

    Raises `ConfigError` as `certificates` does where https needs them.
    """
    return httpx.AsyncClient(
        headers={"Accept": "image/*, */*;q=0.5", "User-Agent": "taxonomist", **PLAIN},
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        transport=httpx.AsyncHTTPTransport(
            verify=_verify(is_secure), proxy=_for_httpx(proxy), limits=limits, trust_env=False
        ),
    )


def forwarding_transport() -> httpx.AsyncHTTPTransport:
    """Return what sends requests on, as they are, to servers of this machine. Each gets a connection of its own, since
    a kept one may be closed at the moment of its next use."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(verify=_verify(False), limits=limits, trust_env=False)


def _is_upgrade(before: httpx.URL, after: httpx.URL) -> bool:
    """Return whether a redirect leads from http to https of the same host, both on their default ports."""
    ports = (
        before.scheme == "http" and before.port in (None, 80) and after.scheme == "https" and after.port in (None, 443)
    )
    return ports and before.host == after.host


def reason_and_fix(error: BaseException) -> tuple[str, str | None]:
    """Return why a request got no answer, and what to do where that is known."""
    if isinstance(error, TaxonomistError):
        return str(error.args[0]).rstrip("."), error.hint
    if refused := untrusted(error):
        return refused
    if isinstance(error, UnusableResponse):
        return str(error), "Look at what stands between us and that server, such as a proxy."
    if isinstance(error, RedirectedElsewhere):
        if error.is_downgrade:
            return str(error), "The proxy before it must send X-Forwarded-Proto: https, so that it redirects to https."
        return str(error), f"Set its address to {error.base} if it is there. Otherwise a login page stands before it."
    if isinstance(error, ProxyFailure):
        return str(error), f"Correct {error.proxy.variable}, or add {error.host} to NO_PROXY if it needs no proxy."
    text = str(error).strip()
    return (text if text and len(text) < 200 else type(error).__name__), None


class _Transport(httpx.BaseTransport):
    """Sends each request directly or through a proxy, and bounds the responses. Certificates are read only when https
    needs them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._routes: dict[tuple[bool, Proxy | None], httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host, proxy = request.url.host, proxy_for(str(request.url))
        request.headers.update(PLAIN)
        with failures_of(proxy, host):
            response = self._route(request.url.scheme == "https", proxy).handle_request(request)
        if proxy is not None and response.status_code == 407:
            response.close()
            raise ProxyFailure("407 Proxy Authentication Required", proxy, host)
        response.request = request
        return bounded(response, self._max_bytes)

    def _route(self, is_secure: bool, proxy: Proxy | None) -> httpx.HTTPTransport:
        with self._lock:
            if (is_secure, proxy) not in self._routes:
                self._routes[is_secure, proxy] = httpx.HTTPTransport(
                    verify=_verify(is_secure), proxy=_for_httpx(proxy), trust_env=False
                )
            return self._routes[is_secure, proxy]

    def close(self) -> None:
        for route in self._routes.values():
            route.close()


@contextmanager
def failures_of(proxy: Proxy | None, host: str) -> Iterator[None]:
    """Raise `ProxyFailure` where the proxy, if there is one, is not reached or does not connect to the host."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if proxy is None or untrusted(error):
            raise
        raise ProxyFailure(error, proxy, host) from error


def _stay(base: httpx.URL, response: httpx.Response) -> None:
    """Raise `RedirectedElsewhere`, or change the status of a redirect so that httpx keeps the method."""
    if not response.has_redirect_location:
        return
    request = response.request
    target = request.url.join(response.headers["location"])
    changes = request.method not in {"GET", "HEAD"} and response.status_code == 303
    is_same = _origin(target) == _origin(request.url) or _is_upgrade(request.url, target)
    if changes or not is_same or not _is_below(base, target):
        raise RedirectedElsewhere(request, target, _moved(base, request.url, target))
    if request.method not in {"GET", "HEAD"}:
        response.status_code = _ON.get(response.status_code, response.status_code)


def _is_below(base: httpx.URL, target: httpx.URL) -> bool:
    """Return whether an address is below the path of `base`: other programs at the host must not get its requests."""
    path = base.path.rstrip("/")
    folders = target.path.replace("\\", "/").split("/")  # decoded
    return not path or (target.path.startswith(f"{path}/") and not {".", ".."} & set(folders))


def _moved(base: httpx.URL, asked: httpx.URL, target: httpx.URL) -> str:
    """Return the address that replaces `base`, when a request to `asked` was redirected to `target`."""
    inner = asked.path.removeprefix(base.path.rstrip("/"))
    prefix = target.path.removesuffix(inner) if target.path.endswith(inner) else ""
    return f"{_origin(target)}{prefix}".rstrip("/")


def _origin(url: httpx.URL) -> str:
    port = url.port if url.port != {"http": 80, "https": 443}.get(url.scheme) else None
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}" + (f":{port}" if port else "")


def _verify(is_secure: bool) -> ssl.SSLContext:
    return certificates() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which trusts no one


def _for_httpx(proxy: Proxy | None) -> httpx.Proxy | None:
    if proxy is None:
        return None
    return httpx.Proxy(proxy.url, ssl_context=certificates() if proxy.url.startswith("https") else None)
