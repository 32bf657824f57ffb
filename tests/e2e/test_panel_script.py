"""The panel's script beside an editor that changes: a page that has what the script asks of Label Studio's store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, render_template
from playwright.sync_api import Browser, FrameLocator, Page, Route, expect

from taxonomist.backend.prediction.assistance import Assistance, Offer, Offers, OffersKind, Reason
from taxonomist.backend.web.panel import pages
from taxonomist.backend.web.panel.view import Links, panel_view

SITE = "http://labels.test"
SINK, BED = ("Bath", "Sink"), ("Bed",)
OFFERS = Offers("room", OffersKind.SUGGESTION, (Offer(SINK, 0.9), Offer(BED, 0.1, can_be_set=False)))
FOUND = {
    "": Assistance((OFFERS,), images={"room": "photo"}),
    "sample": Assistance(reasons=(Reason.CONTROL_SAMPLE,)),
}
EDITOR = """<!doctype html><script>
const control = { type: "taxonomy", toname: "photo", selected: [], isReadOnly: () => false,
  onChange(_, paths) { this.selected = paths.map(({ path }) => path); } };
const photo = { type: "image", parsedValue: "/data/a b.jpg" };
const selected = { type: "annotation", editable: true, isReadOnly: () => false,
  names: new Map([["room", control], ["photo", photo]]) };
window.Htx = { user: { id: 7 }, annotationStore: { selected, viewingAll: false, annotations: [selected] } };
</script><iframe src="/taxonomist/similar?project=4&key=k&src=/data/a b.jpg" width="320" height="520"></iframe>"""


class Site:
    """Answers the browser's requests, and keeps what the panel counts."""

    def __init__(self, page: Page, *, sample: bool = False) -> None:
        self.uses: list[str] = []
        self.errors: list[str] = []
        self.sample = sample
        self.page = page
        folder = Path(pages.__file__).parent / "templates"
        self._app = Flask("panel", template_folder=str(folder))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route(f"{SITE}/**", self._answer)
        page.goto(f"{SITE}/")

    @property
    def panel(self) -> FrameLocator:
        return self.page.frame_locator("iframe")

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(SITE)
        if path == "/":
            route.fulfill(body=EDITOR, content_type="text/html")
        elif "/similar" in path:
            found = FOUND["sample" if self.sample and "&submitted=1&src=" not in path else ""]
            view = panel_view(found, Links(lambda image: image, None))
            with self._app.app_context():
                html = render_template("panel.html", view=view, version=pages.VERSION, project="4", use_key="k")
            policy = pages._CSP.format(sites="'self'")
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy})
        elif "/panel/use" in path:
            self.uses.append(json.loads(route.request.post_data or "{}")["use"])
            route.fulfill(status=204)
        else:
            file = pages.FILES[path.rpartition("/")[2]]
            route.fulfill(body=file.content, content_type=file.content_type)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def test_a_label_is_offered_only_for_the_open_annotation_of_its_image(page: Page) -> None:
    site = Site(page)
    use = site.panel.locator(".use")
    expect(use).to_be_visible()
    assert use.count() == 1  # the other path is none that the control takes
    for change, back in (
        ("photo.parsedValue = '/data/other.jpg'", "photo.parsedValue = '/data/a%20b.jpg'"),
        ("selected.editable = false", "selected.editable = true"),
        ("selected.type = 'prediction'", "selected.type = 'annotation'"),
        ("Htx.annotationStore.viewingAll = true", "Htx.annotationStore.viewingAll = false"),
        ("control.type = 'rating'", "control.type = 'taxonomy'"),
        ("window.kept = window.Htx; window.Htx = undefined", "window.Htx = window.kept"),
    ):
        page.evaluate(change)
        expect(use).to_be_hidden()
        page.keyboard.press("Alt+Digit1")
        page.evaluate(back)
        expect(use).to_be_visible()
    assert page.evaluate("control.selected") == []
    assert site.errors == []


def test_what_is_changed_again_is_counted(page: Page) -> None:
    site = Site(page)
    expect(site.panel.locator(".use")).to_be_visible()
    page.keyboard.press("Alt+Digit1")
    expect(site.panel.locator(".offer.chosen")).to_be_visible()
    assert page.evaluate("control.selected") == [list(SINK)]
    page.evaluate("control.selected = [['Bed']]")
    expect(site.panel.locator(".offer.chosen")).to_have_count(0)
    with page.expect_request(lambda request: "corrected" in (request.post_data or "")):
        page.evaluate("document.querySelector('iframe').src = 'about:blank'")
    page.evaluate("control.selected = []")
    page.keyboard.press("Alt+Digit1")  # the keys went with the panel
    assert page.evaluate("control.selected") == []
    assert site.uses[:2] == ["offered", "taken"]
    assert site.errors == []


def test_a_control_sample_is_helped_once_it_is_submitted(page: Page) -> None:
    site = Site(page, sample=True)
    expect(site.panel.locator("main")).to_have_text("Control sample: please label without help.")
    page.evaluate("selected.user = { id: 8 }; selected.pk = '5'")  # another person's
    page.wait_for_timeout(700)
    expect(site.panel.locator("main")).to_have_text("Control sample: please label without help.")
    page.evaluate("selected.user = { id: 7 }")
    expect(site.panel.locator(".use")).to_be_visible()
