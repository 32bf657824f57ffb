"""A project lead's way through the console in Chromium: no error, no violation of the policy, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from taxonomist.backend.services import Services, registry_name
from taxonomist.storage.catalog import ImageDocument, ProjectLabels
from tests.backend.web.console.conftest import PASSWORD, guarded
from tests.backend.web.serving import serving
from tests.e2e.screens import shoot
from tests.small_world import publish_promise

pytestmark = pytest.mark.e2e

TITLE = "Möbel & Wohnen – Straßenausstattung <script>document.title = 'taken'</script>"


@pytest.fixture
def address(trained: Services) -> Iterator[str]:
    """A server with a password, and a project with two versions, a long title and a disagreement."""
    publish_promise(trained, "7", target=0.9, threshold=0.5)
    trained.projects.update("7", title=TITLE)
    labels = ProjectLabels(uri="/" + "Außergewöhnlich-langer-Dateiname-" * 6 + ".jpg", reason="no_agreement")
    trained.catalog.put(ImageDocument(id="disagreed").in_project("7", labels))
    services = guarded(trained)
    with serving(services, services.settings) as port:
        yield f"http://127.0.0.1:{port}"


def open_page(browser: Browser, width: int, scheme: str, locale: str, complaints: list[str]) -> Page:
    context = browser.new_context(
        viewport=ViewportSize(width=width, height=900),
        color_scheme="dark" if scheme == "dark" else "light",
        locale=locale,
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def test_a_lead_promotes_and_rolls_back(browser: Browser, trained: Services, address: str) -> None:
    complaints: list[str] = []
    page = open_page(browser, 1400, "light", "en-GB", complaints)
    page.goto(address)
    page.fill("#password", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Möbel").click()
    assert page.get_by_role("heading", level=1).inner_text() == TITLE
    page.get_by_role("link", name="Promote v1").click()
    page.get_by_role("button", name="Promote v1").click()
    assert page.get_by_role("status").inner_text() == "The version is served now."
    assert trained.registry.champion(registry_name("7")) == "v1"
    page.get_by_role("link", name="Roll back").click()
    page.get_by_role("button", name="Roll back").click()
    assert trained.registry.champion(registry_name("7")) == "v2"
    page.get_by_role("link", name="See images: 1 image where annotators disagree").click()
    assert page.locator(".tile").count() == 1
    page.get_by_role("link", name="Without disagreement").click()
    page.locator(".tile img").first.wait_for()
    page.wait_for_function("() => document.querySelector('.tile img').naturalWidth > 1")
    page.get_by_role("link", name="Changes").click()
    assert "v2" in page.locator("main").inner_text()
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{address}/project/7/overview")
    assert page.url == f"{address}/login?next=project%2F7%2Foverview"
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize(("width", "scheme", "locale"), [(360, "light", "de-DE"), (1024, "dark", "en-GB")])
def test_pages_fit_the_screen(browser: Browser, address: str, width: int, scheme: str, locale: str) -> None:
    complaints: list[str] = []
    page = open_page(browser, width, scheme, locale, complaints)
    page.goto(f"{address}/login")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/projects")
    for path in ("projects", "project/7/overview", "project/7/images", "project/7/promote?version=v1"):
        page.goto(f"{address}/{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.title().endswith("taxonomist")
    page.goto(f"{address}/project/7/overview")
    shoot(page, f"console-{width}-{scheme}")
    assert complaints == []
    page.context.close()
