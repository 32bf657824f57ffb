"""A real Label Studio and our server below paths of one reverse proxy, and tasks with every form of its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.demo import server
from taxonomist.backend.demo.accounts import checked
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config, tasks, upload
from taxonomist.backend.demo.server import LabelStudioServer, free_port
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.image_ids import image_id
from tests.backend_process import BackendProcess
from tests.e2e.in_process import annotation
from tests.e2e.screens import logged_in, open_task, shoot
from tests.environment import LABEL_STUDIO_CACHE, label_studio_program
from tests.path_proxy import path_proxy
from tests.waiting import eventually

SETTINGS: dict[str, Any] = {
    "views": 1,
    "target_precision": 0.02,
    "retrain_after": 2,
    "retrain_every": 1000,
    "min_annotators": 1,
    "password": "e2e-password",
    "backbone_weights": "starter",
}


class Site(NamedTuple):
    """A proxy with Label Studio below /labels and our server below /taxonomist."""

    url: str
    label_studio: LabelStudioServer
    backend: BackendProcess
    settings: dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        upstreams = {"/labels": free_port()}
        url = stack.enter_context(path_proxy(upstreams, headers={"X-Forwarded-Prefix": "/taxonomist"}))
        label_studio = server.start(
            label_studio_program(),
            tmp_path / "label-studio",
            port=upstreams["/labels"],
            cache=LABEL_STUDIO_CACHE,
            outer_url=f"{url}/labels",
        )
        stack.enter_context(label_studio)
        assert label_studio.url.endswith(f":{upstreams['/labels']}")
        settings = SETTINGS | {"public_url": f"{url}/taxonomist"}
        backend = BackendProcess(tmp_path / "home", settings)
        upstreams["/taxonomist"] = backend.port
        stack.callback(backend.stop)
        yield Site(url, label_studio, backend.start(), settings)


def test_everything_below_paths(site: Site, catalogue: tuple[CatalogueImage, ...], browser: Browser) -> None:
    outer, inner = f"{site.url}/labels", site.label_studio.url
    backend = site.backend
    pictures = catalogue[::6]
    with site.label_studio.owner.client(outer) as owner, ExitStack() as stack:
        project = create_project(owner, "Below", label_config(p.path for p in catalogue), annotators=1)
        made = list(upload(owner, project, pictures[:-1]))
        # Label Studio itself makes the task of the last picture, and writes its path before that of the upload.
        with pictures[-1].file.open("rb") as file:
            checked(owner.post(f"/api/projects/{project}/import", files={"file": file}))
        (own,) = tasks(owner, project, pictures[-1:])
        assert own.uri.startswith("/labels/data/upload/")
        forms = ["{}", "/labels{}", outer + "{}", inner + "{}"]
        for number, task in enumerate(made):
            data = {"image": forms[number % 4].format(task.uri)}
            checked(owner.patch(f"/api/tasks/{task.id}/", json={"data": data}))
        for task in made[:-4]:
            body = {**annotation(task.image), "lead_time": 3.0}
            checked(owner.post(f"/api/tasks/{task.id}/annotations/", json=body))

        # connected by the outer address first, then by the inner one
        connection = ("connect", "--project", str(project), "--yes", "--api-key", site.label_studio.owner.token)
        backend.command(*connection, "--url", outer)
        hooks = checked(owner.get("/api/webhooks", params={"project": project})).json()
        assert [hook["url"] for hook in hooks] == [f"{site.url}/taxonomist/webhook"]
        services = stack.enter_context(
            closing(Services(Settings(home=backend.home, port=backend.port, **site.settings)))
        )
        backend.command("sync", "--project", str(project))
        champion = services.registry.champion
        eventually("a model\n" + backend.said(), lambda: champion(f"project-{project}"), timeout=240)
        assert services.catalog.count(str(project)) == len(pictures)
        assert services.catalog.count(str(project), labelled=True) == len(made) - 4
        for connected_at in (inner, outer):
            backend.command(*connection, "--url", connected_at)
            assert services.label_studio_addresses(str(project)) == (outer if connected_at == inner else inner,)
            for task in made[:4]:
                uri = checked(owner.get(f"/api/tasks/{task.id}/")).json()["data"]["image"]
                assert image_id(uri) == image_id(task.uri)
                assert services.images(str(project)).read(uri) == task.image.file.read_bytes()
            checks = {check.name: check for check in run_checks(services, str(project))}
            for name in ("Label Studio", "token", "server", "ML backend", "webhook", "look-alike panel", "image"):
                assert checks[name].status == "ok", checks[name]

        # a webhook, and a suggestion for the task that Label Studio made
        body = {**annotation(made[-1].image), "lead_time": 3.0}
        checked(owner.post(f"/api/tasks/{made[-1].id}/annotations/", json=body))

        def accepted() -> bool:
            document = services.catalog.get(image_id(made[-1].uri))
            return bool(document and document.projects[str(project)].accepted)

        eventually("the webhook's label\n" + backend.said(), accepted)

        def suggestions() -> list[dict[str, Any]]:
            found = checked(owner.get(f"/api/tasks/{own.id}/")).json()["predictions"]
            return [prediction for prediction in found if prediction["model_version"].startswith("taxonomist-v")]

        eventually("a suggestion\n" + backend.said(), suggestions, timeout=120)

    with logged_in(browser, outer, site.label_studio.owner) as page:
        open_task(page, outer, project, own.id)
        panel = page.frame_locator("iframe[title='Labelled look-alikes']").locator("li img")
        panel.first.wait_for()
        loaded = "images => images.every(image => image.complete && image.naturalWidth > 1)"
        eventually("the look-alikes' pictures are there", lambda: panel.evaluate_all(loaded))
        shoot(page, "below-a-path")
    assert httpx.get(f"{site.url}/taxonomist/metrics", auth=("taxonomist", "e2e-password")).is_success
