"""The front of the server, over real sockets: what clients send slowly, too large, in part, or by the hundred."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.backend.web import connection, front
from taxonomist.backend.web.app import Routes, create_app
from taxonomist.backend.web.callers import failed_passwords
from taxonomist.backend.web.use_cases import Answer, UseCases
from tests.backend.web.serving import serving
from tests.coroutines import run_coroutine
from tests.waiting import eventually

JSON = {"Content-Type": "application/json"}
OPEN = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n"


@pytest.fixture
def port(services: Services) -> Iterator[int]:
    with serving(services, services.settings) as port:
        yield port


@pytest.fixture
def webhook(captures: list[dict[str, Any]]) -> Callable[[int], dict[str, Any]]:
    """Makes the webhook of a new annotation, by its number."""
    recorded = next(found["body"] for found in captures if found["capture"] == "12-annotation-created")

    def make(number: int) -> dict[str, Any]:
        body: dict[str, Any] = copy.deepcopy(recorded)
        body["annotation"] |= {"id": number, "task": number}
        body["task"] |= {"id": number, "data": {"image": f"/data/upload/1/{number:08x}-image.jpg"}}
        return body

    return make


def connect(stack: ExitStack, port: int, sent: bytes = b"") -> socket.socket:
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    client.settimeout(20)
    client.sendall(sent)
    return client


def read(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            answer += part
    return answer


def post(port: int, path: str, content: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}{path}", json=content, headers=headers, timeout=30)


def test_clients_that_send_nothing_or_a_part_take_no_thread(
    port: int, webhook: Callable[[int], dict[str, Any]]
) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            connect(stack, port)
            connect(stack, port, b"POST /webh")
            connect(stack, port, OPEN)
            connect(stack, port, OPEN + b'\r\n{"action": ')
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda number: post(port, "/webhook", webhook(number)), range(1, 41)))
        assert [answer.status_code for answer in answers] == [201] * 40
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "UP"


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHo"])
def test_headers_have_a_deadline(port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection, "HEADER_DEADLINE_S", 1.0)
    with ExitStack() as stack:
        assert read(connect(stack, port, sent)) == b""
        again = connect(stack, port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}\n"):
            answer += again.recv(65536)
        again.sendall(b"GET /he")  # of the second request on this connection
        assert read(again) == b""


@pytest.mark.parametrize("part", [b"X-Long: ", b"GET /" + b"x" * 1000, b""])
def test_headers_have_a_limit(port: int, part: bytes) -> None:
    with ExitStack() as stack:
        client = connect(stack, port, b"GET / HTTP/1.1\r\n" + part)
        with contextlib.suppress(ConnectionError):
            for _ in range(4 * connection.MAX_HEADER_BYTES // 1024):
                client.sendall(b"a" * 1024)
        assert b"200" not in read(client)


def test_the_longest_silent_connection_makes_room(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(connection, "HEADER_DEADLINE_S", 1000.0)
    with ExitStack() as stack:
        first = connect(stack, port)
        for _ in range(40):
            connect(stack, port, b"GET /hea")
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        assert read(first) == b""


def test_a_body_has_a_deadline(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_DEADLINE_S", 0.2)
    with ExitStack() as stack:
        answer = read(connect(stack, port, OPEN + b'\r\n{"action": '))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"The body did not arrive within 0.2 seconds." in answer


@pytest.mark.parametrize(
    ("path", "size", "limit"),
    [("/webhook", 16, "16 MB"), ("/predict", 16, "16 MB"), ("/setup", 16, "16 MB"), ("/health", 1, "64 kB")],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_limit_that_the_error_states(port: int, path: str, size: int, limit: str, chunked: bool) -> None:
    body = b" " * (size * 1024 * 1024 + 1)
    content = (body[start : start + 1024 * 1024] for start in range(0, len(body), 1024 * 1024)) if chunked else body
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=content, headers=JSON, timeout=30)
    assert answer.status_code == 413
    assert answer.json() == {"error": f"The body has more than {limit}, the most that {path} takes."}


def test_who_asks_before_it_sends_is_answered_before(port: int) -> None:
    with ExitStack() as stack:
        head = OPEN.replace(b"5000", b"999999999") + b"Expect: 100-continue\r\n\r\n"
        assert read(connect(stack, port, head)).startswith(b"HTTP/1.1 413 ")
        client = connect(stack, port, head.replace(b"999999999", b"2"))
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_all_bodies_together_have_a_budget(
    port: int, monkeypatch: pytest.MonkeyPatch, webhook: Callable[[int], dict[str, Any]]
) -> None:
    def taken(number: int) -> bool:
        return post(port, "/webhook", webhook(number)).status_code == 201

    monkeypatch.setattr(front, "BODIES_BYTES", 20_000)
    with ExitStack() as stack:
        held = [connect(stack, port, OPEN.replace(b"5000", b"9000") + b"\r\n" + b" " * 8000) for _ in range(2)]
        refused = eventually(  # as soon as both have been read
            "the budget is spent", lambda: post(port, "/webhook", webhook(1)) if not taken(1) else None
        )
        assert refused.status_code == 503
        assert "Try again" in refused.json()["error"]
        for client in held:
            client.close()
        eventually("the budget is free", lambda: taken(1))


def test_predictions_that_hang_delay_nothing_else(
    port: int, monkeypatch: pytest.MonkeyPatch, webhook: Callable[[int], dict[str, Any]]
) -> None:
    released, running = threading.Event(), threading.Semaphore(0)

    def hang(*_: object) -> Answer:
        running.release()
        assert released.wait(60)
        return Answer([])

    monkeypatch.setattr(UseCases, "answer", hang)
    body = {"tasks": [], "project": "1.1795531934", "label_config": "<View/>"}
    with ThreadPoolExecutor(12) as clients:
        waiting = [clients.submit(post, port, "/predict", body) for _ in range(12)]
        for _ in range(8):
            assert running.acquire(timeout=30)
        assert post(port, "/webhook", webhook(1)).status_code == 201
        for path in ("/health", "/readyz", "/metrics", "/versions"):
            assert httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
        assert not any(predicted.done() for predicted in waiting)
        released.set()
        assert [predicted.result().status_code for predicted in waiting] == [200] * 12


@pytest.mark.parametrize("password", [None, "geheim-ä"])
def test_a_webhook_is_answered_as_the_application_answers_it(
    settings: Settings, captures: list[dict[str, Any]], password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_passwords, "LONGEST_DELAY_S", 0.0)
    settings = settings.model_copy(update={"password": SecretStr(password) if password else None})
    services = Services(settings)
    app = create_app(settings, services).test_client()
    bodies = [json.dumps(found["body"]).encode() for found in captures if found["path"] == "/webhook"]
    assert len(bodies) > 10
    bodies += [b"", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"action": 5}', b'{"action": "X", "project": null}']
    secrets: list[dict[str, str]] = [{}, {SECRET_HEADER: "wrong"}, {SECRET_HEADER: services.credentials.webhook_secret}]
    with serving(services, settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for body in bodies:
            for headers in secrets:
                expected = app.post("/webhook", data=body, headers=headers)
                answer = client.post("/webhook", content=body, headers=headers | JSON)
                assert answer.status_code == expected.status_code
                assert without_counts(answer.json()) == without_counts(expected.get_json())
                assert answer.headers.get("WWW-Authenticate") == expected.headers.get("WWW-Authenticate")
        counted = client.get("/metrics", auth=("taxonomist", password or "")).text
    posts = re.findall(r'taxonomist_requests_total\{route="/webhook",status="\d+"\} ([\d.]+)', counted)
    assert sum(map(float, posts)) == len(bodies) * len(secrets)


def without_counts(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer without what differs when a webhook comes twice."""
    return {name: value for name, value in answer.items() if name not in {"new", "job"}}


def test_methods_and_connections(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/webhook").status_code == 405
        assert client.head("/health").content == b""
        assert client.get("/health").json()["status"] == "UP"  # on the same connection
        assert client.get("/n%C3%A4chste/%2e%2e/x%FF?a=%20").status_code == 404
        assert client.options("/predict").status_code == 200
    with ExitStack() as stack:
        assert read(connect(stack, port, b"GET /health HTTP/1.0\r\n\r\n")).endswith(b'"v2":true}\n')
        assert read(connect(stack, port, b"no http\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        first = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
        twice = first + b"\r\n" + first + b"Connection: close\r\n\r\n"
        assert read(connect(stack, port, twice)).count(b"HTTP/1.1 200 OK") == 2


def test_a_page_of_another_site_is_refused(port: int, webhook: Callable[[int], dict[str, Any]]) -> None:
    for headers, status in (
        ({"Origin": "https://evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.test"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ):
        answer = post(port, "/webhook", webhook(1), **headers)
        assert answer.status_code == status
        assert answer.json()["error"]
    assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": "evil.test"}).status_code == 403
    assert httpx.get(f"http://127.0.0.1:{port}/health", headers={"Host": "evil.test"}).status_code == 200
    assert post(port, "/webhook", webhook(1)).json()["new"] > 0  # nothing came in before


def test_many_requests_at_once_on_one_connection(port: int) -> None:
    """uvicorn makes an object of each request that it has read, before the first is answered."""
    with ExitStack() as stack:
        client = connect(stack, port)
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000)
        assert read(client).count(b"HTTP/1.1 200 OK") < 20
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_a_client_that_does_not_take_its_answer_is_left(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKE_DEADLINE_S", 3.0)
    monkeypatch.setattr(Routes, "health", lambda _: "x" * 20_000_000)
    with serving(services, services.settings) as port, ExitStack() as stack:
        client = connect(stack, port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        threading.Event().wait(4)
        assert 0 < len(read(client)) < 20_000_000
        client = connect(stack, port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(read(client)) > 20_000_000  # it is taken at once


def test_bodies_that_never_end_shut_nobody_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 20)
    with ExitStack() as stack:
        for _ in range(40):
            connect(stack, port, OPEN + b"\r\n{")
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_what_follows_a_request_does_not_end_its_answer(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_DEADLINE_S", 0.3)
    begun = threading.Event()

    def answer(*_: object) -> Answer:
        begun.set()
        threading.Event().wait(1)
        return Answer([])

    monkeypatch.setattr(UseCases, "answer", answer)
    body = b'{"tasks": [], "project": "1", "label_config": "<View/>"}'
    with ExitStack() as stack:
        client = connect(stack, port, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        client.sendall(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert begun.wait(10)
        client.sendall(b"\r\n")
        assert read(client).startswith(b"HTTP/1.1 200 OK")


def test_a_program_on_this_machine_is_known_by_either_protocol(
    services: Services, webhook: Callable[[int], dict[str, Any]]
) -> None:
    for number, host in enumerate(("127.0.0.1", "::1")):
        with serving(services, services.settings, host) as port:
            name = f"[{host}]" if ":" in host else host
            assert httpx.post(f"http://{name}:{port}/webhook", json=webhook(number), timeout=30).status_code == 201


def test_who_may_not_call_sends_no_body(settings: Settings) -> None:
    settings = settings.model_copy(update={"password": SecretStr("p")})
    with serving(Services(settings), settings) as port, ExitStack() as stack:
        for path in (b"/webhook", b"/predict", b"/setup", b"/train"):
            head = OPEN.replace(b"/webhook", path).replace(b"5000", b"9000000") + b"Expect: 100-continue\r\n\r\n"
            answer = read(connect(stack, port, head))
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b'www-authenticate: Basic realm="taxonomist"' in answer


def test_a_log_line_cannot_be_forged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    path = b"/x%0a2026%1b[31m/https://u:s3cr3t@h.test/" + b"a" * 5000
    with ExitStack() as stack:
        head = OPEN.replace(b"/webhook", path).replace(b"5000", b"0") + b"Origin: https://evil.test\r\n\r\n"
        assert read(connect(stack, port, head)).startswith(b"HTTP/1.1 403 ")
    (message,) = [record.getMessage() for record in caplog.records if "evil.test" in record.getMessage()]
    assert message.isprintable()
    assert "s3cr3t" not in message
    assert len(message) < 1000


@pytest.mark.parametrize("project", [b"null", b'{"id": 4, "label_config": "\\udfff"}'])
def test_half_a_character_is_replaced(port: int, project: bytes) -> None:
    body = b'{"action": "\\ud800", "project": %b}' % project
    assert httpx.post(f"http://127.0.0.1:{port}/webhook", content=body, headers=JSON).status_code < 500


def test_half_a_character_costs_no_annotation(port: int, webhook: Callable[[int], dict[str, Any]]) -> None:
    body = webhook(1)
    body["annotation"]["last_action"] = "\ud83d"  # half of an emoji
    body["task"]["data"]["image"] = "/data/upload/1/00000001-\ud83d.jpg"
    answer = httpx.post(f"http://127.0.0.1:{port}/webhook", content=json.dumps(body).encode(), headers=JSON)
    assert (answer.json()["new"], answer.json()["ignored"]) == (2, None)


def test_addresses_of_more_than_4_kb_are_refused(
    port: int, services: Services, webhook: Callable[[int], dict[str, Any]]
) -> None:
    address = f"https://images.test/{'a' * 4096}"
    body = webhook(1)
    body["task"]["data"]["image"] = address
    answer = post(port, "/webhook", body).json()
    assert (answer["new"], "more than 4,096" in answer["ignored"]) == (0, True)
    predict = {"tasks": [body["task"]], "project": "1.1", "label_config": body["project"]["label_config"]}
    assert post(port, "/predict", predict).json()["results"][0]["result"] == []
    key = services.credentials.project_key("1")
    page = httpx.get(f"http://127.0.0.1:{port}/similar?project=1&key={key}&src={address}")
    assert (page.status_code, "too long" in page.text) == (400, True)


def test_a_header_with_an_underscore_is_not_taken_for_another(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: list[bool] = []

    def set_up(_use_cases: object, _request: object, *, authenticated: bool, local: bool) -> str:
        callers.append(authenticated)
        return f"v1 {local}"

    monkeypatch.setattr(UseCases, "set_up", set_up)
    body = {"project": "1.1795531934", "schema": "<View/>"}
    with serving(services, services.settings) as port:
        for name in ("X_Forwarded_For", "X-Forwarded-For"):
            assert post(port, "/setup", body, **{name: "10.0.0.1"}).status_code == 401
        training = {"action": "START_TRAINING", "project": {"id": 1, "label_config": "<View/>"}}
        secret = services.credentials.webhook_secret
        for name, status in (("X_Taxonomist_Secret", 401), (SECRET_HEADER, 201)):
            headers = {name: secret, "Via": "1.1 proxy"}
            assert post(port, "/webhook", training, **headers).status_code == status
        assert post(port, "/setup", body).status_code == 200
    assert callers == [False]


def test_no_answer_is_taken_for_another_type(port: int) -> None:
    address = f"http://127.0.0.1:{port}"
    answers = [httpx.get(f"{address}{path}") for path in ("/health", "/metrics", "/nowhere", "/webhook", "/similar")]
    answers += [post(port, "/webhook", {}), post(port, "/setup", {}, Origin="http://evil.test")]
    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}
    with ExitStack() as stack:
        assert b"x-content-type-options: nosniff" in read(connect(stack, port, b"no http\r\n\r\n"))


def test_a_clock_that_is_set_back_keeps_no_sign_of_life_from_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn would end a process that is silent for an hour."""
    signs: list[float] = []

    async def note() -> None:
        signs.append(time.time())

    config = uvicorn.Config(lambda: None, callback_notify=note, **connection.Worker.CONFIG_KWARGS)
    config.load()
    server = uvicorn.Server(config)
    for now in (2e9, 2e9 - 3600, 2e9 - 3599):
        monkeypatch.setattr("uvicorn.server.time.time", lambda: now)  # noqa: B023
        run_coroutine(server.on_tick(0))
    assert signs == [2e9, 2e9 - 3600, 2e9 - 3599]


def test_passwords_in_a_form_are_slowed_down_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(failed_passwords, "sleep", sleep)
    settings = settings.model_copy(update={"password": SecretStr("geheim")})
    with serving(Services(settings), settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        origin = {"Origin": f"http://127.0.0.1:{port}"}
        for attempt in range(7):
            answer = client.post("/login", data={"password": f"wrong {attempt}"}, headers=origin)
            assert answer.status_code == 401
        assert client.post("/login", data={"password": "geheim"}, headers=origin).status_code == 303
        assert client.post("/login", data={"password": "geheim"}).status_code == 403  # from nowhere
        assert client.post("/predict", data={"password": "geheim"}, headers=origin).status_code == 415
    assert waits == [failed_passwords.FIRST_DELAY_S, 2 * failed_passwords.FIRST_DELAY_S]
