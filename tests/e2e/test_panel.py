"""The panel at Label Studio's own address, in a real browser: a label is taken by click and by key, and undone."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect
from pydantic import SecretStr
from werkzeug.serving import make_server

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.demo.accounts import checked
from taxonomist.backend.demo.project import CatalogueImage, DemoTask, create_project, upload
from taxonomist.backend.demo.server import LabelStudioServer, free_port
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.paths import TaxonomyPath
from tests.e2e.screens import logged_in, open_task, put_at_one_address, shoot
from tests.small_world import PATHS, image_bytes, publish_backbone
from tests.waiting import eventually

RED, YELLOW, BLUE, GREEN = PATHS
IMAGE = '<Image name="picture" value="$image"/>'
TAXONOMY = f"""<View>{IMAGE}<Taxonomy name="colour" toName="picture" showFullPath="true">
  <Choice value="The warm ones" alias="Warm"><Choice value="Red"/><Choice value="A yellow" alias="Yellow"/></Choice>
  <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice></Taxonomy></View>"""
CHOICES = f"""<View>{IMAGE}<Choices name="colour" toName="picture"><Choice value="Red"/><Choice value="Yellow"/>
  <Choice value="Blue"/><Choice value="A green" alias="Green"/></Choices></View>"""


@dataclass(frozen=True)
class Kind:
    """A labelling config: the type of its control, the label of a colour, and how Label Studio shows a chosen one."""

    config: str
    type: str
    levels: slice
    chosen: str

    def label(self, path: TaxonomyPath) -> TaxonomyPath:
        return path[self.levels]


NESTED = f"""<View>{IMAGE}<Choices name="colour" toName="picture" allowNested="true">
  <Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
  <Choice value="The cold ones" alias="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice></Choices></View>"""


KINDS = {
    "taxonomy": Kind(TAXONOMY, "taxonomy", slice(None), ".htx-taxonomy .ant-select-selection-item-content"),
    "choices": Kind(CHOICES, "choices", slice(1, None), ".lsf-choice__item:has(input:checked)"),
    "nested choices": Kind(NESTED, "choices", slice(None), ".lsf-choice_leaf .lsf-choice__item:has(input:checked)"),
}


class Site:
    """Our application in this process, which a browser reaches below `/taxonomist` at the address of Label Studio."""

    def __init__(self, home: Path, label_studio: LabelStudioServer, *, one_address: bool) -> None:
        port = free_port()
        self.settings = Settings(
            home=home,
            port=port,
            password=SecretStr("e2e-password"),
            browser_url=f"{label_studio.url}/taxonomist" if one_address else None,
            blind_share=0,
            neighbours=3,
            min_annotators=1,
        )
        self.services = Services(self.settings)
        self.label_studio = label_studio

    @contextmanager
    def serving(self) -> Iterator[None]:
        server = make_server("127.0.0.1", self.settings.port, create_app(self.settings, self.services), threaded=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def project(self, kind: Kind, owner: httpx.Client, folder: Path) -> tuple[int, list[DemoTask]]:
        """Make a connected project; two images of each colour are labelled, and two red ones are not."""
        made = []
        for number in range(10):
            path = PATHS[number % 4] if number < 8 else RED
            file = folder / f"{number:02d}.jpg"
            file.write_bytes(image_bytes(path, number, size=160))
            made.append(CatalogueImage(file, kind.label(path), file.stem))
        project = create_project(owner, f"Panel {kind.type}", kind.config, annotators=1)
        tasks = {task.image.file.name: task for task in upload(owner, project, made)}
        publish_backbone(self.services)
        # Before there are annotations: Label Studio then refuses every change of a config with nested choices.
        url, token = self.label_studio.url, self.label_studio.owner.token
        connect_project(self.services, str(project), url=url, api_key=token, ask=lambda _: True, say=lambda _: None)
        for picture in made[:8]:
            value = [list(picture.path) if len(picture.path) > 1 else picture.path[0]]
            result = {"from_name": "colour", "to_name": "picture", "type": kind.type, "value": {kind.type: value}}
            address = f"/api/tasks/{tasks[picture.file.name].id}/annotations/"
            checked(owner.post(address, json={"result": [result], "lead_time": 3.0}))
        sync(self.services, str(project), lambda *_: None)
        embed_all(self.services, str(project), lambda *_: None)
        return project, [tasks[picture.file.name] for picture in made[8:]]

    def accepted(self, project: int, task: DemoTask) -> list[list[str]]:
        self.services.journal.fold()
        decide_all_dirty(self.services, str(project))
        document = self.services.catalog.get(image_id(task.uri))
        labels = document.projects.get(str(project)) if document else None
        return labels.accepted.get("colour", []) if labels else []


def panel_of(page: Page, site: Site, project: int, task: DemoTask) -> FrameLocator:
    open_task(page, site.label_studio.url, project, task.id)
    return page.frame_locator("iframe[title='Labelled look-alikes']")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_label_is_taken_by_click_and_by_key_and_undone(
    kind: Kind, label_studio: LabelStudioServer, owner: httpx.Client, browser: Browser, tmp_path: Path
) -> None:
    site = Site(tmp_path / "home", label_studio, one_address=True)
    with site.serving(), logged_in(browser, label_studio.url, label_studio.owner) as page:
        project, (first, second) = site.project(kind, owner, tmp_path)
        (address,) = panels_in(checked(owner.get(f"/api/projects/{project}")).json()["label_config"])
        assert address.startswith("/taxonomist/similar?")
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text) if "taxonomist" in message.text else None)
        put_at_one_address(page, label_studio.url, site.settings.url)

        panel = panel_of(page, site, project, first)
        chosen = page.locator(kind.chosen)
        expect(chosen).to_contain_text(["Red"])  # pre-filled
        expect(panel.locator(".offer.chosen b")).to_have_text("Red")
        take = panel.get_by_role("button", name="Use this label: ").last
        take.click()
        expect(chosen).to_contain_text(["yellow" if kind.type == "taxonomy" else "Yellow"])
        expect(panel.locator(".group.chosen")).to_contain_text("yellow", ignore_case=True)
        page.get_by_role("button", name="Undo").click()
        expect(chosen).to_contain_text(["Red"])
        expect(panel.locator(".offer.chosen b")).to_have_text("Red")
        take.click()
        page.get_by_role("button", name="Submit").click()
        wanted = [list(kind.label(YELLOW))]
        eventually("the label that was taken by click", lambda: site.accepted(project, first) == wanted, timeout=20)

        panel = panel_of(page, site, project, second)
        expect(panel.locator("kbd").first).to_be_visible()
        page.keyboard.press("Control+Alt+Digit2")  # AltGr
        page.keyboard.press("Alt+Digit9")
        expect(panel.locator(".offer.chosen b")).to_have_text("Red")
        page.keyboard.press("Alt+Digit2")
        expect(panel.locator(".group.chosen")).to_contain_text("yellow", ignore_case=True)
        page.set_viewport_size({"width": 1024, "height": 768})
        expect(chosen.first).to_be_in_viewport()
        page.evaluate("document.documentElement.dataset.colorScheme = 'dark'")
        expect(panel.locator("html")).to_have_attribute("data-color-scheme", "dark")
        shoot(page, f"panel-{kind.type}-1024")
        page.get_by_role("button", name="Submit").click()
        eventually("the label that was taken by key", lambda: site.accepted(project, second) == wanted, timeout=20)
        page.goto(f"{label_studio.url}/projects/")  # the panel goes, and with it its keys
        metrics = httpx.get(f"{site.settings.url}/metrics", auth=("taxonomist", "e2e-password")).text
        counts = dict(re.findall(r'taxonomist_panel_labels_total{.*use="(\w+)"} (\d+)', metrics))
        assert (counts["offered"], counts["taken"]) == ("2", "2")
        assert "corrected" not in counts
        assert refused == []


def test_at_a_foreign_address_there_is_nothing_to_take(
    label_studio: LabelStudioServer, owner: httpx.Client, browser: Browser, tmp_path: Path
) -> None:
    site = Site(tmp_path / "home", label_studio, one_address=False)
    with site.serving(), logged_in(browser, label_studio.url, label_studio.owner) as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        project, (task, _) = site.project(KINDS["choices"], owner, tmp_path)
        panel = panel_of(page, site, project, task)
        expect(panel.locator(".offer b")).to_have_text("Red")
        panel.locator(".thumb").first.click()
        expect(panel.locator("dialog")).to_contain_text("Similarity")
        assert panel.locator(".use:visible").count() == 0
        page.keyboard.press("Alt+Digit2")
        expect(page.locator(KINDS["choices"].chosen)).to_contain_text(["Red"])
        size = "() => [document.documentElement.scrollHeight, window.innerHeight]"
        content, height = panel.locator("body").evaluate(size)
        assert content <= height
        assert panel.locator("html").get_attribute("data-color-scheme") == "light"
        assert errors == []
