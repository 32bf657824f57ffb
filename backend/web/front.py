"""The front of the server: takes whole requests from the network and hands each to the threads of its kind.

An event loop reads headers and bodies, so that a slow or silent client takes no thread. A body has a limit and a
deadline, and all bodies of a kind have a budget. Who may not call is refused before its body is read. Webhooks,
predictions, health checks and pages have threads of their own: predictions that wait for a hanging image host, or a
page of thumbnails, do not delay a webhook, whose answer Label Studio awaits for one second.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

from pydantic_core import to_json

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web import webhook_groups
from taxonomist.backend.web.app import MAX_BODY_BYTES, Routes, create_app, make_routes
from taxonomist.backend.web.callers.caller import Caller, put_caller
from taxonomist.backend.web.callers.failed_passwords import FailedPasswords
from taxonomist.backend.web.callers.gate import Gate
from taxonomist.backend.web.callers.page_address import REFUSAL, PageAddress
from taxonomist.backend.web.connection import IS_WHOLE
from taxonomist.backend.web.webhook_groups import WebhookGroups
from taxonomist.storage.home.privacy import repair_modes
from taxonomist.taxonomy.errors import AuthError
from taxonomist.taxonomy.names import shorten

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KB, MB = 1024, 1024 * 1024
BODIES_BYTES = 64 * MB  # of all requests of a kind that are read or answered
BODY_DEADLINE_S = 30.0
DISCARD_DEADLINE_S = 5.0
DISCARD_BYTES = 4 * MAX_BODY_BYTES
_TOO_MANY = "Too many passwords of this caller were wrong. Try again in a second."


@dataclass(frozen=True)
class Kind:
    """A kind of requests: its threads, and the largest body in bytes."""

    name: str
    threads: int
    max_body: int


@dataclass(frozen=True)
class Response:
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True)
class _Refused:
    """The answer to a request that is refused. With `rest` its body may still be under way."""

    response: Response
    rest: bool = True


def create_front(settings: Settings, services: Services | None = None) -> Front:
    """Return the server's ASGI application. Raises what `Services.home` raises."""
    routes = make_routes(settings, services)
    threading.Thread(target=repair_modes, args=(settings.home,), name="modes", daemon=True).start()
    return Front(create_app(settings, routes=routes), routes, settings)


class Front:
    """The ASGI application around our WSGI application `app`; webhooks go straight to `routes`."""

    def __init__(self, app: WSGIApplication, routes: Routes, settings: Settings) -> None:
        self._app = app
        self._routes = routes
        webhook = Kind("webhook", webhook_groups.THREADS, MAX_BODY_BYTES)
        predict = Kind("predict", settings.threads, MAX_BODY_BYTES)
        control = Kind("control", 2, MAX_BODY_BYTES)
        health = Kind("health", 2, 64 * KB)
        self._page = Kind("page", 4, 64 * KB)
        self._kinds = {"webhook": webhook, "predict": predict, "setup": control, "train": control}
        self._kinds |= dict.fromkeys(("", "health", "livez", "readyz", "metrics", "versions"), health)
        self._pools = {
            kind.name: ThreadPoolExecutor(kind.threads, thread_name_prefix=kind.name)
            for kind in (webhook, predict, control, health, self._page)
        }
        prefixes = {"", urlsplit(settings.url).path, urlsplit(settings.page_url).path}
        self._webhook_paths = {f"{prefix}/webhook" for prefix in prefixes}
        self._webhooks = WebhookGroups(routes.take_webhooks, self._pools[webhook.name])
        self._gate = Gate(settings)
        self._page_address = PageAddress(settings)
        self._failed_passwords = FailedPasswords()
        self._held = dict.fromkeys(self._pools, 0)  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"].rpartition("/")[2]
        kind = self._kinds.get(path, self._page)
        caller = self._caller(scope)
        caller_on_trial = caller
        with self._body_budget(kind) as hold:
            body = await self._body(scope, receive, kind, caller, hold)
            if isinstance(body, bytes) and body and kind is self._page:  # a form, which may have a password
                caller_on_trial = replace(caller, authorization=body.decode("latin-1"))
            if caller_on_trial is not caller and self._failed_passwords.must_wait(caller_on_trial):
                body = _refuse(429, _TOO_MANY)
            if isinstance(body, Response):
                response = body
                self._routes.count_refused(path, response.status)
                sent = shorten(scope["raw_path"].decode("latin-1"), 300)
                log.warning("%s %s: %s", scope["method"], sent, response.body.decode())
            elif scope["path"] in self._webhook_paths and scope["method"] == "POST":
                answer = await self._webhooks.answer(body, caller)
                response = _json_response(answer.status, answer.content)
            else:
                response = await asyncio.get_running_loop().run_in_executor(
                    self._pools[kind.name], self._ask_app, scope, caller, body
                )
            del body
        if response.status == 401:
            await self._failed_passwords.slow_down(caller_on_trial)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    def close(self) -> None:
        """Wait for the requests that are being answered, and end the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    @contextlib.contextmanager
    def _body_budget(self, kind: Kind) -> Iterator[Callable[[int], bool]]:
        """Yield a function that takes bytes from the kind's budget, or returns False; the block gives them back."""
        taken = 0

        def hold(size: int) -> bool:
            nonlocal taken
            if self._held[kind.name] + size > BODIES_BYTES:
                return False
            self._held[kind.name] += size
            taken += size
            return True

        try:
            yield hold
        finally:
            self._held[kind.name] -= taken

    def _caller(self, scope: Scope) -> Caller:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        return self._routes.proxies.caller(headers, (scope["client"] or ("", 0))[0])

    async def _body(
        self, scope: Scope, receive: Receive, kind: Kind, caller: Caller, hold: Callable[[int], bool]
    ) -> bytes | Response:
        """Return the body, or the response that refuses the request."""
        headers = dict(scope["headers"])
        body: bytes | _Refused
        takes_forms = kind is self._page
        if self._page_address.refuses(scope["path"], caller):
            body = _Refused(_refuse(404, REFUSAL))
        elif refusal := self._gate.refusal(scope["method"], scope["path"], scope["headers"], takes_forms=takes_forms):
            body = _Refused(_refuse(*refusal))
        elif not self._is_certain(kind, caller) and self._failed_passwords.must_wait(caller):
            body = _Refused(_refuse(429, _TOO_MANY))
        elif reason := self._unauthorised(kind, caller):
            body = _Refused(_refuse(401, reason))
        else:
            try:
                body = await _read_in_time(scope, receive, kind, hold)
            except TimeoutError:
                late = _refuse(408, f"The body did not arrive within {BODY_DEADLINE_S:g} seconds.")
                body = _Refused(late, rest=False)
        if isinstance(body, bytes):
            return body
        if body.rest and b"expect" not in headers:
            await _discard(receive)
        return body.response

    def _is_certain(self, kind: Kind, caller: Caller) -> bool:
        """Return whether a caller sent what this server made, which is too long to be found by trying."""
        settings, credentials = self._routes.services.settings, self._routes.services.credentials
        if kind.name == "webhook" and settings.webhook_secret is None and credentials.has_secret(caller.secret):
            return True
        return settings.password is None and credentials.has_password(caller.authorization)

    def _unauthorised(self, kind: Kind, caller: Caller) -> str | None:
        """Return why a call of Label Studio's is not allowed, None when it may be, which its body decides."""
        try:
            if kind.name in {"webhook", "predict", "control"}:
                self._routes.access.check(caller, webhook=kind.name == "webhook")
        except AuthError as error:
            return str(error)
        return None

    def _ask_app(self, scope: Scope, caller: Caller, body: bytes) -> Response:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[..., None]:
            started[:] = [int(status.split(" ", 1)[0]), headers]
            return lambda data: None

        environ = _environ(scope, body)
        put_caller(environ, caller)
        parts: Iterable[bytes] = self._app(environ, start_response)
        try:
            content = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        status, headers = started
        return Response(status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], content)


async def _read_in_time(scope: Scope, receive: Receive, kind: Kind, hold: Callable[[int], bool]) -> bytes | _Refused:
    """Return what `_read_body` does. Raises `TimeoutError` when the client is too slow."""
    if IS_WHOLE in scope:
        return await _read_body(scope, receive, kind, hold)
    async with asyncio.timeout(BODY_DEADLINE_S):
        return await _read_body(scope, receive, kind, hold)


async def _read_body(scope: Scope, receive: Receive, kind: Kind, hold: Callable[[int], bool]) -> bytes | _Refused:
    """Return the body, or the response that refuses it."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > kind.max_body:
        return _Refused(_too_large(scope, kind))
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _Refused(_refuse(400, "The connection was closed before the end of the body."), rest=False)
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > kind.max_body:
            return _Refused(_too_large(scope, kind), rest=more)
        if not hold(len(part)):
            busy = _refuse(503, "The server has too many requests with large bodies. Try again.")
            return _Refused(busy, rest=more)
        parts.append(part)
    return b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Read on for a while. Closed while the client still sends, the connection would be reset, and the answer lost."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_DEADLINE_S):
            size = 0
            while size < DISCARD_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _too_large(scope: Scope, kind: Kind) -> Response:
    unit = f"{kind.max_body // MB} MB" if kind.max_body >= MB else f"{kind.max_body // KB} kB"
    return _refuse(413, f"The body has more than {unit}, the most that {scope['path']} takes.")


def _refuse(status: int, reason: str) -> Response:
    response = _json_response(status, {"error": reason})
    return Response(status, [*response.headers, (b"connection", b"close")], response.body)


def _json_response(status: int, content: dict[str, Any]) -> Response:
    try:
        body = to_json(content)
    except ValueError:  # half of a character
        body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 429:
        headers.append((b"retry-after", b"1"))
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="taxonomist"'))
    return Response(status, headers, body)


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return the request as WSGI has it (PEP 3333).

    Header names with "_" are left out: WSGI could not tell them from those with "-".
    """
    host, port = scope["server"] or ("", 0)
    client = scope["client"] or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "REQUEST_URI": scope["raw_path"].decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name == "content-type":
            environ["CONTENT_TYPE"] = value
        elif "_" not in name and name not in {"content-length", "transfer-encoding"}:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
