"""Label Studio's screens as a person sees them, through headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from taxonomist.backend.demo.accounts import Account
from taxonomist.taxonomy.paths import TaxonomyPath

ARTIFACTS = Path(__file__).parent / "artifacts"
SIZE = ViewportSize(width=1400, height=900)
CHOSEN = ".htx-taxonomy .ant-select-selection-item-content"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def logged_in(browser: Browser, url: str, account: Account) -> Iterator[Page]:
    """Open a page of the Label Studio at `url` on which `account` has logged in through the form."""
    context = browser.new_context(viewport=SIZE)
    try:
        page = context.new_page()
        page.goto(f"{url}/user/login/")
        page.fill("input[name=email]", account.email)
        page.fill("input[name=password]", account.password)
        with page.expect_navigation():
            page.click("button[type=submit]")
        yield page
    finally:
        context.close()


def put_at_one_address(page: Page, url: str, backend: str) -> None:
    """Answer the browser's requests below `/taxonomist` of the Label Studio at `url` by our server, as a proxy does."""

    def forward(route: Route) -> None:
        route.fulfill(response=route.fetch(url=backend + route.request.url.removeprefix(f"{url}/taxonomist")))

    page.context.route(f"{url}/taxonomist/**", forward)


def open_task(page: Page, url: str, project_id: int, task_id: int) -> None:
    """Open a task as from the Data Manager and wait until its image and its taxonomy are there."""
    page.goto(f"{url}/projects/{project_id}/data?task={task_id}")
    _wait_for_editor(page)


def open_stream(page: Page, url: str, project_id: int) -> None:
    """Press "Label All Tasks": the next task of the labelling stream."""
    page.goto(f"{url}/projects/{project_id}/data?labeling=1")
    _wait_for_editor(page)


def selected_paths(page: Page) -> list[str]:
    """Return the paths that the `<Taxonomy>` control (with `showFullPath`) shows as chosen, as `A / B / C`."""
    return page.locator(CHOSEN).all_inner_texts()


def expect_paths(page: Page, paths: Sequence[TaxonomyPath]) -> None:
    """Wait until the `<Taxonomy>` control (with `showFullPath`) shows exactly these paths; fail otherwise."""
    expect(page.locator(CHOSEN)).to_have_text([" / ".join(path) for path in paths])


def shoot(page: Page, name: str) -> Path:
    """Take a screenshot of the page into `tests/e2e/artifacts`; return the file.

    The environment variable `SCREENSHOTS` names the folder of the documentation's screenshots: a file of that name
    there is replaced (`make screenshots`).
    """
    ARTIFACTS.mkdir(exist_ok=True)
    file = ARTIFACTS / f"{name}.png"
    page.screenshot(path=file)
    if folder := os.environ.get("SCREENSHOTS"):
        documented = Path(folder) / file.name
        if documented.exists():
            shutil.copyfile(file, documented)
    return file


def barriers(page: Page) -> list[str]:
    """Return what axe calls serious or critical on the page, as `rule: elements`."""
    violations = Axe().run(page).response["violations"]
    serious = [found for found in violations if found["impact"] in {"serious", "critical"}]
    return [f"{found['id']}: {', '.join(str(node['target']) for node in found['nodes'])}" for found in serious]


def _wait_for_editor(page: Page) -> None:
    editor = page.locator(".lsf-main-view")
    editor.wait_for()
    # The image comes as a blob: that it was decoded is the only sign that it is shown.
    page.wait_for_function("() => [...document.querySelectorAll('.lsf-main-view img')].some(i => i.naturalWidth > 1)")
