"""Who may call without the password, over real sockets: programs on this machine, before a project is connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling.manifests.importing import import_manifest
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.web.callers.access import MOST_OPEN_PROJECTS
from taxonomist.backend.web.callers.caller import Proxies
from taxonomist.backend.worker.retraining_schedule import projects_of_label_studio
from tests.backend.web.serving import serving
from tests.backend.web.test_front import OPEN, connect, read
from tests.small_world import CONFIG, write_catalogue

PROXIED = [
    {"Forwarded": "for=192.0.2.1"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"x-forwarded-proto": "https"},
    {"X-Forwarded-Host": ""},
    {"X_Forwarded_For": "10.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"X-Real-Ip": "::1"},
    {"Via": "1.1 nginx"},
    {"CF-Connecting-IP": "127.0.0.1"},
    {"X.Forwarded.For": "127.0.0.1"},
    {"Fastly-Client-IP": "127.0.0.1"},
]
HEADERS_OF_PROXIES = [
    "X-Forwarded X-Forwarded-For X-Forwarded-Port X-Forwarded-Server X-HTTP-Forwarded-For",
    "HTTP-X-Forwarded-For Forwarded-For-Ip X-Real-IP X-RealIP X-Remote-IP X-Remote-Addr X-Original-Host",
    "X-Original-URL X-Host X-Scheme X-URL-Scheme Front-End-Https Client-IP X-Client-IP X-ClientIP",
    "X-Cluster-Client-IP Proxy-Client-IP WL-Proxy-Client-IP True-Client-IP X-ProxyUser-Ip",
    "Fastly-Client-IP Fly-Client-IP CF-Connecting-IP CF-Ray CF-Visitor CDN-Loop X-Azure-ClientIP",
    "X-Azure-SocketIP X-ARR-LOG-ID X-Appengine-User-Ip X-Envoy-External-Address X-Varnish X-Amz-Cf-Id",
    "X-Amzn-Trace-Id Max-Forwards Proxy-Connection Via",
]
IN_A_BROWSER = [
    {"Origin": "http://127.0.0.1:9090"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Mode": "navigate"},
    {"Referer": "http://localhost:9090/similar"},
    {"Cookie": "a=b"},
]


@pytest.fixture
def client(services: Services) -> Iterator[httpx.Client]:
    with serving(services, services.settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client


def calls(project: int | str = 7) -> dict[str, dict[str, Any]]:
    """Return by path what Label Studio sends about a project, without tasks."""
    return {
        "/setup": {"project": f"{project}.1795531934", "schema": CONFIG},
        "/predict": {"project": f"{project}.1795531934", "label_config": CONFIG, "tasks": []},
        "/webhook": {"action": "START_TRAINING", "project": {"id": project, "label_config": CONFIG}},
        "/train": {"project": project},
    }


def statuses(client: httpx.Client, project: int | str = 7, **how: Any) -> set[int]:
    return {client.post(path, json=body, **how).status_code for path, body in calls(project).items()}


def connected(services: Services, project: str = "7") -> None:
    """As `connect` leaves the record."""
    services.projects.update(project, label_config=CONFIG, ml_backend=1, has_password=True)


def test_before_a_project_is_connected_programs_of_this_machine_may_call(client: httpx.Client) -> None:
    assert statuses(client) <= {200, 201}


@pytest.mark.parametrize("headers", [*PROXIED, *IN_A_BROWSER])
def test_neither_a_proxy_nor_a_browser_is_such_a_program(
    client: httpx.Client, services: Services, headers: dict[str, str]
) -> None:
    refused = {403} if "Origin" in headers else {401}  # another port: the page of another program
    assert statuses(client, headers=headers) <= refused | {401}
    assert not services.projects.exists("7")
    assert services.jobs.waiting() == []
    password = (services.credentials.username, services.credentials.password)
    if "Origin" not in headers:
        assert statuses(client, headers=headers, auth=password) <= {200, 201}


@pytest.mark.parametrize("line", HEADERS_OF_PROXIES)
def test_no_spelling_of_a_header_of_a_proxy_is_missed(line: str) -> None:
    proxies = Proxies(Settings())
    for name in line.split():
        for spelling in (name, name.upper(), name.lower(), name.replace("-", "_")):
            assert not proxies.caller([(spelling, "x")], "127.0.0.1").is_direct, spelling


def test_no_header_of_a_program_is_one_of_a_proxy() -> None:
    sent = """Host Accept Accept-Encoding Accept-Language User-Agent Connection Keep-Alive Content-Type Content-Length
    Date Transfer-Encoding Authorization X-Taxonomist-Secret Expect Traceparent X-Request-ID Cache-Control TE DNT"""
    assert Proxies(Settings()).caller([(name, "x") for name in sent.split()], "127.0.0.1").is_local_program


def test_once_connected_each_call_needs_the_password(client: httpx.Client, services: Services) -> None:
    connected(services)
    assert statuses(client) == {401}
    assert statuses(client, auth=("taxonomist", "wrong")) == {401}
    assert statuses(client, auth=("taxonomist", "")) == {401}
    assert services.jobs.waiting() == []
    assert statuses(client, auth=(services.credentials.username, services.credentials.password)) <= {200, 201}
    secret = {SECRET_HEADER: services.credentials.webhook_secret}
    answers = {path: client.post(path, json=body, headers=secret).status_code for path, body in calls().items()}
    assert answers == {"/setup": 401, "/predict": 401, "/webhook": 201, "/train": 401}
    assert statuses(client, 8) <= {200, 201}  # another one, which a person added by hand


def test_a_project_that_an_earlier_release_connected_goes_on(client: httpx.Client, services: Services) -> None:
    services.projects.update("7", label_config=CONFIG, ml_backend=1, label_studio_url="http://localhost:8080")
    assert statuses(client) <= {200, 201}


@pytest.mark.parametrize("spelling", ["7", 7, "7.1", "7.", 7.0])
def test_no_spelling_of_the_project_is_another_project(
    client: httpx.Client, services: Services, spelling: float | str
) -> None:
    connected(services)
    for path, body in calls().items():
        body["project"] = {"id": spelling, "label_config": CONFIG} if path == "/webhook" else spelling
        assert client.post(path, json=body).status_code in {400, 401}, path


@pytest.mark.parametrize("spelling", ["07", "007", "７", "٧", "7" * 19])
def test_another_spelling_of_a_number_is_no_project_of_label_studio(services: Services, spelling: str) -> None:
    """A pass would read project 7 with the token of its lead, and predictions would be written there."""
    named = {"label_studio_url": "http://127.0.0.1:1", "label_studio_api_key": SecretStr("t")}
    services = Services(services.settings.model_copy(update=named))
    connected(services)
    with serving(services, services.settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert statuses(client, spelling) <= {200, 201, 400}
    assert {(job.kind, job.project) for job in services.jobs.waiting()} == {(JobKind.TRAIN, spelling)}
    assert [record.project for record in projects_of_label_studio(services)] == ["7"]


def test_the_number_of_projects_without_the_password_is_limited(client: httpx.Client, services: Services) -> None:
    for number in range(1, MOST_OPEN_PROJECTS + 1):
        assert client.post("/setup", json=calls(number)["/setup"]).status_code == 200
    refused = client.post("/setup", json=calls(500)["/setup"])
    assert refused.status_code == 401
    assert "connect --project 500" in refused.text
    assert statuses(client, 500) == {401}
    assert not services.projects.exists("500")
    assert statuses(client, 5) <= {200, 201}  # one of those that were there
    services.projects.update("6", has_password=True)
    assert statuses(client, 500) <= {200, 201}


def test_imported_projects_take_no_place(client: httpx.Client, services: Services, tmp_path: Path) -> None:
    import_manifest(services, write_catalogue(tmp_path, 2), "catalogue-1")
    imports = services.projects.get("catalogue-1").imports
    assert imports
    for number in range(2, MOST_OPEN_PROJECTS + 2):
        services.projects.update(f"catalogue-{number}", imports=imports)
    assert statuses(client, 500) <= {200, 201}
    assert client.post("/setup", json=calls("made-1")["/setup"]).status_code == 200  # a program may send a name
    for number in range(2, MOST_OPEN_PROJECTS):
        services.projects.update(f"made-{number}", label_config=CONFIG)
    assert client.post("/setup", json=calls("one-more")["/setup"]).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/versions"])
def test_reading_needs_no_password_on_this_machine(client: httpx.Client, services: Services, path: str) -> None:
    connected(services)
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"Sec-Fetch-Site": "none"}).status_code == 200  # a person opens it
    assert client.get(path, headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 401


@pytest.mark.parametrize("given", [{"password": SecretStr("p")}, {"allow_no_password": True}])
def test_a_setting_decides_for_all_callers(services: Services, given: dict[str, Any]) -> None:
    settings = services.settings.model_copy(update=given)
    services = Services(settings)
    connected(services)
    allowed = {200, 201} if "allow_no_password" in given else {401}
    with serving(services, settings) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for project in (7, 8):
            assert statuses(client, project) <= allowed
            assert statuses(client, project, headers={"X-Forwarded-For": "10.0.0.1"}) <= allowed


@pytest.mark.parametrize(
    "twice",
    [
        b"Host: localhost",
        b"Host: evil.test",
        b"Origin: http://evil.test\r\nOrigin: http://localhost",
        b"Content-Type: text/plain",
        b"Authorization: Basic eDp5\r\nAuthorization: Basic eDp5",
        b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Site: none",
        b"X-Taxonomist-Secret: a\r\nX-Taxonomist-Secret: b",
    ],
)
def test_a_header_that_comes_once_is_refused_twice(services: Services, twice: bytes) -> None:
    with serving(services, services.settings) as port, ExitStack() as stack:
        head = OPEN.replace(b"5000", b"2") + twice + b"\r\nConnection: close\r\n\r\n{}"
        assert read(connect(stack, port, head)).startswith(b"HTTP/1.1 400 ")
        health = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert read(connect(stack, port, health)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.7", "10.9.9.9", "192.0.2.7"),  # anybody
        ("10.0.0.1", "192.0.2.8", "192.0.2.8"),
        ("10.0.0.1", "127.0.0.1, 192.0.2.8", "192.0.2.8"),  # what the client itself sent does not count
        ("10.0.0.1", "192.0.2.8, 10.0.0.2", "192.0.2.8"),  # two proxies of ours
        ("::ffff:10.0.0.1", "192.0.2.8", "192.0.2.8"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("", "192.0.2.8", ""),
    ],
)
def test_forwarding_headers_count_from_configured_proxies(peer: str, forwarded: str, address: str) -> None:
    proxies = Proxies(Settings(trusted_proxies="10.0.0.0/24"))
    caller = proxies.caller([("x-forwarded-for", forwarded)], peer)
    assert (caller.address, caller.is_direct) == (address, False)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_this_machine(peer: str) -> None:
    assert Proxies(Settings()).caller([], peer).is_local_program
    assert not Proxies(Settings()).caller([], "192.168.1.5").is_direct
    assert not Proxies(Settings()).caller([], "").is_direct


def test_a_wrong_password_for_a_new_project_is_refused(client: httpx.Client) -> None:
    """connect asks Label Studio to call /setup with the password, and must learn that it is another one."""
    assert client.post("/setup", json=calls()["/setup"], auth=("taxonomist", "of another server")).status_code == 401
    assert client.post("/setup", json=calls()["/setup"]).status_code == 200
