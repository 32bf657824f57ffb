"""How the addresses of a Label Studio become known, and which of them count for a project."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.backend.state.project_records import with_address
from taxonomist.backend.web.app import create_app
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG

INNER, OUTER = "http://label-studio:8080", "https://labels.example/labels"


def set_up(services: Services, hostname: Any, *, caller: str = "127.0.0.1", status: int = 200, **headers: Any) -> None:
    body = {"project": "4.1795531934", "schema": CONFIG, "hostname": hostname, "access_token": "creator's"}
    client = create_app(services.settings, services).test_client()
    answer = client.post("/setup", json=body, headers=headers, environ_base={"REMOTE_ADDR": caller})
    assert answer.status_code == status, answer.text


@pytest.fixture
def connected(services: Services) -> Services:
    services.projects.update("4", label_studio_url=INNER, api_key=SecretStr("token"), created="1795531934")
    return services


def test_setup_says_by_which_address_label_studio_knows_itself(connected: Services) -> None:
    for hostname in (f"{OUTER}/", OUTER, INNER, "https://labels2.example"):
        set_up(connected, hostname)
    assert connected.label_studio_addresses("4") == (OUTER, "https://labels2.example")
    assert connected.label_studio("4") == (INNER, "token")  # the address and the token stay
    assert connected.label_studio_addresses("5") == ()


def test_one_address_goes_by_what_label_studio_last_called_itself(connected: Services) -> None:
    connected.settings.browser_url = "https://labels.example/taxonomist"
    assert one_address(connected, "4") is None
    connected.settings.browser_url = None  # so that the caller counts as local
    set_up(connected, OUTER)
    connected.settings.browser_url = "https://labels.example/taxonomist"
    assert one_address(connected, "4") == "/taxonomist"
    connected.settings.browser_url = None
    connected.projects.update("4", ml_backend=1)
    set_up(connected, "https://moved.example")  # once connected, the password says that it is Label Studio
    assert connected.projects.get("4").label_studio_outer == OUTER
    password = base64.b64encode(f"taxonomist:{connected.credentials.password}".encode()).decode()
    set_up(connected, "https://moved.example", Authorization=f"Basic {password}")
    connected.settings.browser_url = "https://labels.example/taxonomist"
    assert one_address(connected, "4") is None


@pytest.mark.parametrize(
    ("page_url", "outer", "path"),
    [
        ("https://labels.example:443/taxonomist", "https://LABELS.example/labels", "/taxonomist"),
        ("https://bücher.example/a/b", "https://xn--bcher-kva.example", "/a/b"),
        ("https://labels.example", "https://labels.example", None),  # both cannot be at the root
        ("http://labels.example/taxonomist", "https://labels.example", None),
        ("https://labels.example:8443/taxonomist", "https://labels.example", None),
        ("http://127.0.0.1:8080/taxonomist", "http://localhost:8080", None),
    ],
)
def test_an_address_is_one_with_another_by_its_origin(
    connected: Services, page_url: str, outer: str, path: str | None
) -> None:
    connected.settings.browser_url = page_url
    connected.projects.update("4", label_studio_outer=outer)
    assert one_address(connected, "4") == path


@pytest.mark.parametrize(
    "hostname",
    [
        None,
        "",
        7,
        "labels",
        "ftp://labels",
        "https://user:secret@labels.example",
        "//x",
        "https://labels.example/" + "a" * 2000,
        "https://labels.example:99999",
        "https://labels.example/a b",
        "https://labels.example/\n",
        "http://[::1",
        "javascript:alert(1)",
        "http:///",
        ["https://labels.example"],
    ],
)
def test_what_is_no_address_is_not_learned(connected: Services, hostname: object) -> None:
    set_up(connected, hostname)
    assert connected.label_studio_addresses("4") == ()


def test_who_may_name_an_address(connected: Services) -> None:
    set_up(connected, OUTER, caller="10.0.0.7", status=401)
    set_up(connected, OUTER, **{"X-Forwarded-For": "10.0.0.7"}, status=401)
    set_up(connected, OUTER, **{"Sec-Fetch-Site": "same-origin"}, status=401)
    assert connected.label_studio_addresses("4") == ()
    set_up(connected, OUTER)
    assert connected.label_studio_addresses("4") == (OUTER,)
    connected.projects.update("4", ml_backend=3)  # as by `connect` of an earlier release, which gave no password
    set_up(connected, INNER, **{"Origin": "http://127.0.0.1:9090"}, status=401)
    set_up(connected, "https://other.example")
    assert connected.label_studio_addresses("4") == (OUTER,)
    set_up(connected, "https://other.example", **with_password(connected))
    assert connected.label_studio_addresses("4") == (OUTER, "https://other.example")


def with_password(services: Services) -> dict[str, Any]:
    credentials = services.credentials
    sent = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    return {"Authorization": f"Basic {sent}"}


def test_setup_replaces_no_address_that_is_known(connected: Services) -> None:
    connected.settings.allow_no_password = True  # the widest that can be set
    for number in range(30):
        set_up(connected, f"http://127.0.0.1:{1000 + number}", caller="10.0.0.7")
    assert connected.label_studio("4") == (INNER, "token")
    assert connected.label_studio_addresses("4") == ()


def test_the_setting_counts_for_the_label_studio_of_the_settings_only(connected: Services) -> None:
    settings = connected.settings
    settings.label_studio_addresses = [OUTER]
    assert connected.label_studio_addresses("4") == (OUTER,)  # the only one that is known
    connected.projects.update("6", label_studio_url="http://elsewhere:8080", api_key=SecretStr("theirs"))
    assert connected.label_studio_addresses("4") == connected.label_studio_addresses("6") == ()
    settings.label_studio_url = INNER
    assert connected.label_studio_addresses("4") == (OUTER,)
    assert connected.label_studio_addresses("6") == ()


def test_images_at_the_outer_address_are_read_at_the_inner_one(services: Services) -> None:
    path = "/data/upload/4/3f2a1b0c-a.jpg"
    with StandIn() as label_studio:
        label_studio.answers[path] = "an image"
        services.projects.update("4", label_studio_url=label_studio.url, api_key=SecretStr("token"))
        set_up(services, OUTER)
        for uri in (path, f"/labels{path}", OUTER + path, label_studio.url + path):
            assert services.images("4").read(uri) == b'"an image"'


def test_objects_are_read_through_the_storages_of_the_project(services: Services) -> None:
    with StandIn() as label_studio:
        label_studio.answers["/projects/4/resolve"] = "an image"
        services.projects.update("4", label_studio_url=label_studio.url, api_key=SecretStr("token"))
        for uri in ("s3://photos/a.jpg", "gs://photos/a.jpg", "azure-blob://photos/a.jpg"):
            assert services.images("4").read(uri) == b'"an image"'


def test_addresses_that_are_kept() -> None:
    assert with_address((), None, INNER) == ()
    assert with_address(("a", "b"), "a", "b") == ("a",)
    assert with_address(("a",), "b", "c") == ("a", "b")
    many = tuple(f"http://host{number}" for number in range(10))
    assert with_address(many, OUTER, INNER) == (*many[1:], OUTER)
