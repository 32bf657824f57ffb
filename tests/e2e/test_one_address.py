"""A real Label Studio and our pages at one address, through the proxy of the demo."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.demo import server
from taxonomist.backend.demo.accounts import Account, checked, sign_up
from taxonomist.backend.demo.one_address import OneAddress, one_address
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config, upload
from taxonomist.backend.demo.server import DATABASE, LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.backend.web.callers.test_page_address import PROTOCOL
from tests.backend_process import BackendProcess
from tests.e2e.in_process import annotation
from tests.e2e.screens import logged_in, open_task, shoot
from tests.environment import LABEL_STUDIO_CACHE, label_studio_program
from tests.waiting import eventually

PASSWORD = "e2e-password"
LOG_IN = "Log in to Label Studio, then reload this page."
FRAME = "iframe[title='Labelled look-alikes']"


class Site(NamedTuple):
    """The proxy, and what is behind it."""

    proxy: OneAddress
    label_studio: LabelStudioServer
    backend: BackendProcess
    settings: dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        proxy = stack.enter_context(one_address(0))
        folder = tmp_path / "label-studio"
        program, cache = label_studio_program(), LABEL_STUDIO_CACHE
        label_studio = stack.enter_context(server.start(program, folder, cache=cache, outer_url=proxy.url))
        settings: dict[str, Any] = {
            "browser_url": proxy.page_url,
            "password": PASSWORD,
            "min_annotators": 1,
            "retrain_after": 1000,
        }
        backend = BackendProcess(tmp_path / "home", settings)
        stack.callback(backend.stop)
        proxy.label_studio, proxy.ours = label_studio.url, backend.url
        yield Site(proxy, label_studio, backend.start(), settings)


def of_another_organisation(label_studio: LabelStudioServer) -> Account:
    """Return a person who belongs to an organisation of their own; the open edition makes no second one."""
    other = sign_up(label_studio.url, label_studio.owner, "other@example.com", "Annotator-2468")
    with closing(sqlite3.connect(label_studio.data_folder / DATABASE, timeout=30)) as database, database:
        made = database.execute(
            "INSERT INTO organization (title, token, created_at, updated_at, created_by_id, contact_info)"
            " SELECT 'Other', 'other-token', created_at, updated_at, ?, contact_info FROM organization LIMIT 1",
            (other.user_id,),
        ).lastrowid
        database.execute("UPDATE htx_user SET active_organization_id = ? WHERE id = ?", (made, other.user_id))
        database.execute(
            "UPDATE organizations_organizationmember SET organization_id = ? WHERE user_id = ?", (made, other.user_id)
        )
    return other


def test_one_login_one_address_and_only_pages(
    site: Site, catalogue: tuple[CatalogueImage, ...], browser: Browser
) -> None:
    url, label_studio, backend = site.proxy.url, site.label_studio, site.backend
    services = Services(Settings(home=backend.home, port=backend.port, **site.settings))
    with label_studio.owner.client(url) as owner:  # through the proxy, the upload too
        project = create_project(owner, "One", label_config(p.path for p in catalogue), annotators=1)
        made = upload(owner, project, catalogue[::80])
        for task in made[1:]:
            checked(owner.post(f"/api/tasks/{task.id}/annotations/", json={**annotation(task.image), "lead_time": 3.0}))
        connect_project(
            services,
            str(project),
            url=label_studio.url,
            api_key=label_studio.owner.token,
            ask=lambda _: True,
            say=print,
        )
        [panel] = panels_in(checked(owner.get(f"/api/projects/{project}")).json()["label_config"])
        hooks = checked(owner.get("/api/webhooks", params={"project": project})).json()
    assert panel.startswith(f"/taxonomist/similar?project={project}&key=")
    assert [hook["url"] for hook in hooks] == [f"{backend.url}/webhook"]
    eventually("the labels", lambda: services.catalog.count(str(project), labelled=True) == len(made) - 1, timeout=60)

    with logged_in(browser, url, label_studio.owner) as page:
        open_task(page, url, project, made[0].id)
        page.frame_locator(FRAME).locator("li img").first.wait_for()
        shown = str(page.evaluate(f'() => document.querySelector("{FRAME}").contentWindow.location.href'))
        assert shown.startswith(f"{url}/taxonomist/similar?")
        shoot(page, "one-address")
        expect(page.frame_locator(FRAME).locator("kbd").first).to_be_visible()
        page.keyboard.press("Alt+Digit1")  # takes the first label of the panel
        expect(page.frame_locator(FRAME).locator(".chosen").first).to_be_visible()
        page.get_by_role("button", name="Submit").click()
        labelled = services.catalog.count
        eventually("the label of the panel", lambda: labelled(str(project), labelled=True) == len(made), timeout=60)
        for name in PROTOCOL:
            for path in (name, name.upper(), f"{name}/", f"/{name}", f"x/../{name}"):
                answer = page.request.post(f"{url}/taxonomist/{path}", data={})
                assert answer.status == 404, path
        [session] = [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "sessionid"]
        page.goto(f"{url}/logout/")
        assert page.request.get(shown).status == 403  # page.goto would show the page that the browser keeps for 5 s
    thumbnail = f"{url}/taxonomist/thumbnail?{urlsplit(shown).query}"
    for address in (shown, thumbnail):
        assert (httpx.get(address).status_code, LOG_IN in httpx.get(address).text) == (403, True)
    password = ("taxonomist", PASSWORD)
    assert {httpx.get(f"{url}/taxonomist/{name}", auth=password).status_code for name in PROTOCOL} == {404}
    assert httpx.get(f"{backend.url}/metrics", auth=password).status_code == 200

    with logged_in(browser, url, of_another_organisation(label_studio)) as page:
        page.goto(shown)
        expect(page.locator("body")).to_contain_text("You may not see this project.")
    ours = [file for file in (*backend.home.rglob("*"), backend.log) if file.is_file()]
    assert not [file for file in ours if session.encode() in file.read_bytes()]
