"""A project lead's way through the console in Chromium: no error, no violation of the policy, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from taxonomist.backend.services import Services, registry_name
from taxonomist.storage.catalog import ImageDocument, ProjectLabels
from tests.backend.web.console.conftest import PASSWORD, guarded
from tests.backend.web.serving import serving
from tests.e2e.screens import barriers, shoot
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


SCREENS = [
    (360, "light", "de-DE"),
    (360, "dark", "en-GB"),
    (1024, "light", "en-GB"),
    (1024, "dark", "de-DE"),
    (1400, "light", "de-DE"),
    (1400, "dark", "en-GB"),
]
ANALYSED = 1024  # pixels: the width at which axe looks at each page, since it takes most of the time
PAGES = {
    "projects": "projects",
    "overview": "project/7/overview",
    "images": "project/7/images",
    "image": "project/7/image?id={image}",
    "evaluation": "project/7/evaluation?version=v1",
    "changes": "project/7/changes",
    "retrain": "project/7/retrain",
    "promote": "project/7/promote?version=v1",
    "roll-back": "project/7/roll-back",
    "missing": "project/8/overview",
}


@pytest.mark.parametrize(("width", "scheme", "locale"), SCREENS)
def test_each_page_fits_the_screen_and_has_no_barriers(
    browser: Browser, trained: Services, address: str, width: int, scheme: str, locale: str
) -> None:
    complaints: list[str] = []
    page = open_page(browser, width, scheme, locale, complaints)
    page.goto(f"{address}/login")
    assert width != ANALYSED or barriers(page) == []
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/projects")
    image = next(iter(trained.catalog.documents("7", labelled=True))).id
    for name, path in PAGES.items():
        page.goto(f"{address}/{path.format(image=image)}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.title().endswith("taxonomist")
        assert width != ANALYSED or barriers(page) == [], name
        shoot(page, f"console-{name}-{width}-{scheme}")
    assert [text for text in complaints if "404" not in text] == []
    page.context.close()
