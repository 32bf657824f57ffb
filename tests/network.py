"""An authority that signs certificates, servers by http and https, and a forward proxy, all on loopback."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = tuple(spelling for name in ("http", "https", "all", "no") for spelling in (f"{name}_proxy", f"{name}_PROXY"))


class Authority:
    """An authority of a company. `file` has its certificate in PEM form."""

    def __init__(self, folder: Path, name: str = "Company") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} Root")])
        self._own = (
            self._builder(subject, subject, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def der(self) -> bytes:
        return self._own.public_bytes(serialization.Encoding.DER)

    def server_side(self, *names: str, days: int = 30) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names or IP addresses, valid for so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        signed = (
            self._builder(subject, self._own.subject, key, days)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"{self._name}-{signed.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 30
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Asked(NamedTuple):
    """A request as a server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class Server(AbstractContextManager["Server"]):
    """A server on 127.0.0.1, by https with a context. It answers `replies` by path, else 404, and keeps `asked`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self._server = _HttpServer(("127.0.0.1", 0), self._handler())
        self._server.context = context
        self.port = self._server.server_port
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def redirect(self, path: str, location: str, status: int = 301) -> None:
        self.replies[path] = Reply(status, b"", {"Location": location})

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # as real services do: a client closes its connections when it is closed

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.title(): value for name, value in self.headers.items()}
                server.asked.append(Asked(self.command, self.path, headers, body))
                reply = server.replies.get(self.path.partition("?")[0], Reply(404, b'{"detail": "Not found."}'))
                self.send_response(reply.status)
                length = {} if "Transfer-Encoding" in reply.headers else {"Content-Length": str(len(reply.body))}
                headers = {"Content-Type": "application/json", **length, **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    with contextlib.suppress(ConnectionError):  # of a client that does not read all of it
                        self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _HttpServer(ThreadingHTTPServer):
    context: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands in the request's own thread. A client that does not trust us hangs up."""
        assert isinstance(request, socket.socket)
        with contextlib.suppress(OSError):
            if self.context is not None:
                with self.context.wrap_socket(request, server_side=True) as wrapped:
                    super().finish_request(wrapped, client_address)
            else:
                super().finish_request(request, client_address)


class ForwardProxy(AbstractContextManager["ForwardProxy"]):
    """A proxy as companies have it: CONNECT for https, whole addresses for http.

    `hosts` says which port of this machine stands for a "host:port" of the outer world. `passed` has what went through
    it, as "CONNECT host:port" or "GET http://host/path". With `login`, "user:password" is required.
    """

    def __init__(self, login: str | None = None) -> None:
        self.hosts: dict[str, int] = {}
        self.passed: list[str] = []
        self.login = login
        self._server = _ProxyServer(("127.0.0.1", 0), _ProxyHandler)
        self._server.proxy = self
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'{login}@' if login else ''}127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _ProxyServer(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = True
    proxy: ForwardProxy


class _ProxyHandler(StreamRequestHandler):
    server: _ProxyServer

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._handle()

    def _handle(self) -> None:
        proxy = self.server.proxy
        method, target, _ = self.rfile.readline().decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        proxy.passed.append(f"{method} {target}")
        if proxy.login is not None:
            wanted = f"Basic {base64.b64encode(proxy.login.encode()).decode()}"
            if headers.get("proxy-authorization") != wanted:
                self._answer("407 Proxy Authentication Required")
                return
        host = target if method == "CONNECT" else target.partition("://")[2].partition("/")[0]
        host = host if ":" in host else f"{host}:80"
        if host not in proxy.hosts:
            self._answer("502 Bad Gateway")
            return
        with socket.create_connection(("127.0.0.1", proxy.hosts[host])) as outer:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.partition("://")[2].partition("/")[2]
                del headers["host"]
                sent = {"host": host, **headers, "connection": "close"}
                lines = [f"{method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in sent.items())]
                body = self.rfile.read(int(headers.get("content-length", 0)))
                outer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            self._tunnel(outer)

    def _answer(self, status: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _tunnel(self, outer: socket.socket) -> None:
        others = {self.connection: outer, outer: self.connection}
        with selectors.DefaultSelector() as selector:
            for end in others:
                selector.register(end, selectors.EVENT_READ)
            while ready := selector.select(30):
                for key, _ in ready:
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    if not (data := end.recv(65536)):
                        return
                    others[end].sendall(data)


@pytest.fixture
def no_network_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names neither certificates nor proxies."""
    for name in (*VARIABLES, *PROXIES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path, no_network_variables: None) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(authority: Authority) -> Iterator[Server]:
    """A server with the company's certificate, for names of the company and for 127.0.0.1."""
    with Server(authority.server_side("127.0.0.1", "labels.company.test", "*.blob.company.test")) as running:
        yield running


@pytest.fixture
def plain(no_network_variables: None) -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def forward_proxy(no_network_variables: None) -> Iterator[ForwardProxy]:
    with ForwardProxy() as running:
        yield running
