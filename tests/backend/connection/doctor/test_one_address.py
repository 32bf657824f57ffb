"""What the doctor finds at the address of the pages, through real proxies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from taxonomist.backend.connection.doctor import one_address
from taxonomist.backend.connection.doctor.result import Check
from taxonomist.backend.services import Services
from tests.backend.web.serving import serving
from tests.path_proxy import path_proxy

FORWARDED = {"X-Forwarded-For": "203.0.113.7"}


def check(services: Services, page: str, headers: Mapping[str, str], path: str = "/taxonomist") -> Check:
    with ExitStack() as stack:
        upstreams: dict[str, int] = {}
        site = stack.enter_context(path_proxy(upstreams, headers=headers))
        services.settings.browser_url = f"{site}{page}"
        services.projects.update("4", label_studio_url="http://127.0.0.1:1", label_studio_outer=site)
        upstreams[path] = stack.enter_context(serving(services, services.settings))
        [found] = one_address.checks(services, ["4"])
    return found


@pytest.mark.parametrize(
    ("page", "headers", "status", "says"),
    [
        ("/taxonomist", FORWARDED, "ok", "they have one address with Label Studio"),
        ("/taxonomist", {}, "fail", "/metrics answers 401"),  # a proxy that does not say so
        ("/elsewhere", FORWARDED, "fail", "does not lead to this server (404)"),
    ],
)
def test_what_is_at_the_address(services: Services, page: str, headers: dict[str, str], status: str, says: str) -> None:
    found = check(services, page, headers)
    assert (found.status, says in found.detail) == (status, True), found


def test_an_address_that_only_others_reach(services: Services) -> None:
    services.settings.browser_url = "http://127.0.0.1:1/taxonomist"
    [found] = one_address.checks(services, [])
    assert (found.status, "cannot be asked from this machine" in found.detail) == ("warn", True)


def test_without_such_an_address_nothing_is_asked(services: Services) -> None:
    assert list(one_address.checks(services, ["4"])) == []
