"""The loop on a real Label Studio: connect, pre-fill, three people annotate, retrain, promote, roll back.

One long test: each step begins where the one before it ended, as it does for a team.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, ContentSettings, CorsRule, generate_blob_sas
from playwright.sync_api import Browser, Page

from emulators import ACCOUNT, Blob, Cosmos
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.annotators import Answer, Outcome, annotate, plan
from taxonomist.backend.demo.project import CatalogueImage, DemoTask, create_project, label_config, tasks
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.backend.state.jobs import JobKind
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject
from tests.e2e.screens import logged_in, open_stream, open_task, put_at_one_address, selected_paths, shoot
from tests.waiting import eventually

PASSWORD = "e2e-password"
# Few pictures: what is tested is the loop, so every suggestion is shown, however unsure.
SETTINGS = {
    "views": 1,
    "target_precision": 0.02,
    "head": "mlp",  # suggests something, however poor it is
    "retrain_after": 2,
    "retrain_every": 1000,
    "password": PASSWORD,
}


@dataclass
class Loop:
    """The parts of the scenario, and questions to them."""

    label_studio: LabelStudioServer
    owner: httpx.Client
    backend: BackendProcess
    project: int
    services: Services
    has_one_address: bool = False

    def champion(self) -> str | None:
        return self.services.registry.champion(f"project-{self.project}")

    def wait_for_champion(self, version: str) -> None:
        eventually(
            f"{version} is served\n{self.backend.said()}",
            lambda: self.champion() == version and self.is_idle(),
            timeout=180,
        )

    def is_idle(self) -> bool:
        self.services.journal.fold()
        busy = [job for job in self.services.jobs.latest(str(self.project)) if job.state in {"waiting", "running"}]
        return not busy

    def labels(self, task: DemoTask) -> ProjectLabels | None:
        document = self.services.catalog.get(image_id(task.uri))
        return document.projects.get(str(self.project)) if document else None

    def ml_backend(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = checked(self.owner.get("/api/ml", params={"project": self.project})).json()
        (row,) = rows
        return row

    def predictions(self, task: DemoTask) -> list[dict[str, Any]]:
        predictions: list[dict[str, Any]] = checked(self.owner.get(f"/api/tasks/{task.id}/")).json()["predictions"]
        return predictions

    def newest_prediction(self, task: DemoTask) -> dict[str, Any]:
        return max(self.predictions(task), key=lambda prediction: prediction["updated_at"])


def annotate_cases(
    loop: Loop, annotators: list[Account], cases: dict[DemoTask, Outcome], taxonomy: list[tuple[str, ...]]
) -> dict[DemoTask, list[Answer]]:
    given = {}
    for task, outcome in cases.items():
        given[task] = list(plan({task.id: task.image.path}, taxonomy, shares={outcome: 1.0}, seed=task.id))
        annotate(loop.label_studio.url, annotators, given[task])
    return given


def test_the_loop(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    make_backend: Callable[..., BackendProcess],
    browser: Browser,
) -> None:
    project, tasks = make_project("The loop", catalogue[::4])
    backend = make_backend(**SETTINGS, browser_url=f"{label_studio.url}/taxonomist")
    services = Services(Settings(home=backend.home, password=SETTINGS["password"], port=backend.port))
    loop = Loop(label_studio, owner, backend, project, services, has_one_address=True)
    go_round(loop, annotators, tasks, sorted({picture.path for picture in catalogue}), browser)


def test_the_loop_on_azure(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_backend: Callable[..., BackendProcess],
    browser: Browser,
    azurite: Blob,
    cosmos_server: Cosmos,
) -> None:
    """Documents in Cosmos DB; pictures, models and embeddings in Blob Storage, where nothing is read without a SAS."""
    name = uuid4().hex
    azure = {
        "cosmos_connection_string": cosmos_server.connection_string,
        "cosmos_database": name,
        "blob_connection_string": azurite.connection_string,
        "models_container": f"models-{name}",
    }
    pictures = catalogue[::4]
    project = create_project(owner, "The loop on Azure", label_config(picture.path for picture in catalogue))
    links = store_privately(azurite, f"pictures-{name}", pictures)
    checked(owner.post(f"/api/projects/{project}/import", json=[{"data": {"image": link}} for link in links]))

    backend = make_backend(start=False, **SETTINGS, **azure)
    backend.command("cosmos", "install")
    backend.start()
    settings: dict[str, Any] = {**azure, "home": backend.home, "password": SETTINGS["password"], "port": backend.port}
    services = Services(Settings(**settings))
    loop = Loop(label_studio, owner, backend, project, services)
    with closing(services):
        go_round(loop, annotators, tasks(owner, project, pictures), sorted({p.path for p in catalogue}), browser)
    assert not (backend.home / "catalog.sqlite").exists()
    assert "sig=" not in backend.log.read_text()


def store_privately(azurite: Blob, container: str, pictures: tuple[CatalogueImage, ...]) -> list[str]:
    """Upload to a private container; return signed links that are valid for an hour."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as account:
        # Label Studio's page fetches pictures by script.
        account.set_service_properties(cors=[CorsRule(["*"], ["GET"], allowed_headers=["*"], exposed_headers=["*"])])
        account.create_container(container)
        links = []
        for number, picture in enumerate(pictures):
            blob = account.get_blob_client(container, f"{number:08d}-{picture.file.name}")
            blob.upload_blob(picture.file.read_bytes(), content_settings=ContentSettings("image/jpeg"))
            assert httpx.get(blob.url, trust_env=False).status_code in {403, 404}
            signature = generate_blob_sas(
                ACCOUNT,
                container,
                blob.blob_name,
                account_key=azurite.key,
                permission=BlobSasPermissions(read=True),
                expiry=datetime.now(UTC) + timedelta(hours=1),
            )
            links.append(f"{blob.url}?{signature}")
    return links


def go_round(
    loop: Loop,
    annotators: list[Account],
    tasks: tuple[DemoTask, ...],
    taxonomy: list[tuple[str, ...]],
    browser: Browser,
) -> None:
    # Annotated before the backend was connected: no webhook tells of these.
    truths = {task.id: task.image.path for task in tasks[:60]}
    annotate(loop.label_studio.url, annotators, plan(truths, taxonomy, shares={Outcome.AGREE: 1}))

    connect(loop)
    open_tasks = first_model(loop, tasks[60:])
    prefilled_screens(loop, browser, annotators[0], open_tasks)
    agreement(loop, annotators, open_tasks, taxonomy)
    second_model(loop, next(task for task in reversed(open_tasks) if suggested(loop, task)))
    start_training(loop)
    if loop.has_one_address:
        rollback_in_the_console(loop, browser)
    else:
        rollback(loop)


def connect(loop: Loop) -> None:
    said = loop.backend.command("connect", "--project", str(loop.project), "--yes").stdout
    assert "taxonomist-look-alikes-0" in said
    row = loop.ml_backend()
    assert (row["state"], row["url"]) == ("CO", loop.backend.url)
    webhooks = checked(loop.owner.get("/api/webhooks", params={"project": loop.project})).json()
    assert [hook["url"] for hook in webhooks] == [f"{loop.backend.url}/webhook"]
    assert SECRET_HEADER in webhooks[0]["headers"]
    again = loop.backend.command("connect", "--project", str(loop.project), "--yes").stdout
    assert "Added" not in again
    assert len(checked(loop.owner.get("/api/webhooks", params={"project": loop.project})).json()) == 1


def first_model(loop: Loop, others: tuple[DemoTask, ...]) -> tuple[DemoTask, ...]:
    """`sync` reads earlier annotations; a model is trained and its version set in Label Studio without a command."""
    loop.backend.command("sync", "--project", str(loop.project))
    loop.wait_for_champion("v1")
    assert loop.services.catalog.count(str(loop.project), labelled=True) == 60
    row = loop.ml_backend()
    assert (row["title"], row["model_version"]) == ("taxonomist-v1", "taxonomist-v1")
    return others


def prefilled_screens(loop: Loop, browser: Browser, person: Account, tasks: tuple[DemoTask, ...]) -> None:
    # Any task is pre-filled; a picture for the README had better show one that the model gets right.
    prefilled = [task for task in tasks if suggested(loop, task)]
    right = (task for task in prefilled if suggested(loop, task) == list(task.image.path))
    task = next(right, prefilled[0])
    with logged_in(browser, loop.label_studio.url, person) as page:
        put_at_one_address(page, loop.label_studio.url, loop.backend.url)  # for the pages that have this address
        open_task(page, loop.label_studio.url, loop.project, task.id)
        assert_prefilled(page, loop, task)
        wait_for_panel(page)
        shoot(page, "prefilled-with-look-alikes")
        open_stream(page, loop.label_studio.url, loop.project)
        wait_for_panel(page)
        # The stream chooses the task, and of a few the model dares no suggestion.
        shown = [path.replace(" / ", "/") for path in selected_paths(page)]
        assert shown == [] or shown[0] in {"/".join(suggested(loop, task) or ()) for task in tasks}
        shoot(page, "label-stream")


def suggested(loop: Loop, task: DemoTask) -> list[str] | None:
    """Return the path that version 1 suggests for a task, or None."""
    for prediction in loop.predictions(task):
        if prediction["model_version"] == "taxonomist-v1" and prediction["result"]:
            paths: list[list[str]] = prediction["result"][0]["value"]["taxonomy"]
            (path,) = paths
            return path
    return None


def assert_prefilled(page: Page, loop: Loop, task: DemoTask) -> None:
    newest = loop.newest_prediction(task)
    assert newest["model_version"] == "taxonomist-v1"
    assert 0 <= newest["score"] <= 1
    path = suggested(loop, task)
    assert path
    page.locator(".htx-taxonomy .ant-select-selection-item-content").first.wait_for()
    (shown,) = selected_paths(page)
    assert shown.replace(" / ", "/") == "/".join(path)


def wait_for_panel(page: Page) -> None:
    frame = page.locator("iframe[title='Labelled look-alikes']")
    if (frame.get_attribute("src") or "").startswith("/"):  # then labels can be taken
        frame.content_frame.locator("kbd").first.wait_for()
    pictures = frame.content_frame.locator("li img")
    pictures.first.wait_for()
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 1)"
    eventually("the look-alikes' pictures are there", lambda: pictures.evaluate_all(loaded))
    assert 0 < pictures.count() <= 8  # at most four of a label


def agreement(
    loop: Loop, annotators: list[Account], tasks: tuple[DemoTask, ...], taxonomy: list[tuple[str, ...]]
) -> None:
    """The decisions on five tasks of three people arrive by webhooks alone."""
    cases = dict(
        zip(
            tasks,
            (Outcome.AGREE, Outcome.TWO_TO_ONE, Outcome.ALL_DIFFER, Outcome.SEVERAL_PATHS, Outcome.ONE_SKIPS),
            strict=False,
        )
    )
    given = annotate_cases(loop, annotators, cases, taxonomy)
    for task, outcome in cases.items():
        truth = list(task.image.path)

        def decided(task: DemoTask = task) -> ProjectLabels | None:
            loop.services.journal.fold()
            found = loop.labels(task)
            seen = loop.services.catalog.get(image_id(task.uri))
            return found if found and seen and len(seen.labels_with_taxonomy) == submitted(given[task]) else None

        labels = eventually(f"{outcome} is decided\n{loop.backend.said()}", decided)
        accepted = labels.accepted.get("category", [])
        if outcome is Outcome.ALL_DIFFER:
            assert accepted == []
            assert labels.reason
        elif outcome is Outcome.SEVERAL_PATHS:
            assert truth in accepted
            assert len(accepted) == 2
        else:
            assert accepted == [truth]


def submitted(answers: list[Answer]) -> int:
    return sum(1 for answer in answers if answer.paths)


def second_model(loop: Loop, untouched: DemoTask) -> None:
    """New labels start a training. A model that is not better stays a candidate, and the reason is kept."""
    registry, name = loop.services.registry, f"project-{loop.project}"
    eventually(
        "a second version\n" + loop.backend.said(),
        lambda: len(registry.versions(name)) == 2 and loop.is_idle(),
        timeout=180,
    )
    decision = registry.get(name, "v2").head_manifest.promotion
    assert decision is not None
    assert decision.reason
    if not decision.promoted:
        loop.backend.command("models", "promote", "v2", "--project", str(loop.project))
    loop.wait_for_champion("v2")
    assert_served(loop, untouched, "taxonomist-v2")


def assert_served(loop: Loop, task: DemoTask, version: str) -> None:
    eventually(
        f"task {task.id} is pre-filled by {version}\n{loop.backend.said()}",
        lambda: loop.newest_prediction(task)["model_version"] == version,
    )
    row = loop.ml_backend()
    assert (row["title"], row["model_version"]) == (version, version)
    about = checked(loop.owner.get(f"/api/projects/{loop.project}")).json()
    assert about["model_version"] == version


def start_training(loop: Loop) -> None:
    """The button in Label Studio starts a training at once, which makes no version when nothing is new."""
    answer = checked(loop.owner.post(f"/api/ml/{loop.ml_backend()['id']}/train"))
    assert answer.status_code == 200

    def skipped() -> bool:
        job = next(iter(loop.services.jobs.latest(str(loop.project), JobKind.TRAIN)))
        return loop.is_idle() and job.outcome.startswith("Nothing is trained")

    eventually("a training without new labels\n" + loop.backend.said(), skipped, timeout=180)
    assert len(loop.services.registry.versions(f"project-{loop.project}")) == 2
    versions = checked(loop.owner.get(f"/api/ml/{loop.ml_backend()['id']}/versions")).json()["versions"]
    assert set(versions) == {"taxonomist-v1", "taxonomist-v2"}


def rollback(loop: Loop) -> None:
    served = loop.champion()
    previous = loop.services.registry.previous(f"project-{loop.project}")
    loop.backend.command("models", "rollback", "--project", str(loop.project))
    assert loop.champion() == previous != served
    listed = json.loads(loop.backend.command("models", "list", "--project", str(loop.project), "--json").stdout)
    assert [row["version"] for row in listed if row["champion"]] == [previous]
    row = loop.ml_backend()
    assert row["title"] == f"taxonomist-{previous}"


def rollback_in_the_console(loop: Loop, browser: Browser) -> None:
    """The owner of the project sees what needs a person, and takes the version before back, as who they are there."""
    site, project = loop.label_studio.url, f"project/{loop.project}"
    served, previous = loop.champion(), loop.services.registry.previous(f"project-{loop.project}")
    with logged_in(browser, site, loop.label_studio.owner) as page:
        put_at_one_address(page, site, loop.backend.url)
        page.goto(f"{site}/taxonomist/projects")
        page.get_by_role("link", name="The loop").click()
        shoot(page, "console-overview")
        page.get_by_role("link", name="See images: 1 image where annotators disagree").click()
        assert page.locator(".tile").count() == 1
        page.goto(f"{site}/taxonomist/{project}/images")
        page.wait_for_function("() => [...document.images].every(image => image.complete)")
        shoot(page, "console-images")
        page.goto(f"{site}/taxonomist/{project}/overview")
        page.get_by_role("link", name="Roll back").click()
        page.get_by_label("The password of the server").fill("wrong")
        page.get_by_role("button", name="Roll back").click()
        assert loop.champion() == served
        page.get_by_label("The password of the server").fill(PASSWORD)
        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("status").wait_for()
        page.goto(f"{site}/taxonomist/{project}/changes")
        assert loop.label_studio.owner.email in page.locator("main").inner_text()
    assert loop.champion() == previous != served
    assert loop.ml_backend()["title"] == f"taxonomist-{previous}"
