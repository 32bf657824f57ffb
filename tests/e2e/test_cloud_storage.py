"""Images in S3 (moto's server), read through the storage of a project in a real Label Studio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.demo.accounts import checked
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ImageForbiddenError, ImageUnavailableError
from tests.backend_process import BackendProcess
from tests.e2e.in_process import annotation
from tests.s3_server import S3, running_s3
from tests.waiting import eventually

SETTINGS: dict[str, Any] = {
    "head": "mlp",  # suggests something, however poor it is
    "views": 1,
    "target_precision": 0.02,
    "retrain_after": 2,
    "retrain_every": 1000,
    "min_annotators": 1,
    "password": "e2e-password",
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(tmp_path_factory.mktemp("s3") / "moto.log") as running:
        yield running


@pytest.fixture
def open_services() -> Iterator[Callable[[Settings], Services]]:
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(closing(Services(settings)))


def synchronised(owner: httpx.Client, s3: S3, bucket: str, config: str, *, presign: bool) -> tuple[int, dict[str, int]]:
    """Make a project with the bucket as its storage; return its number, and its tasks' numbers by address."""
    project = create_project(owner, f"Bucket {bucket}", config, annotators=1)
    storage = {
        "project": project,
        "bucket": bucket,
        "use_blob_urls": True,
        "presign": presign,
        "recursive_scan": True,
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "region_name": "us-east-1",
        "s3_endpoint": s3.url,
    }
    number = checked(owner.post("/api/storages/s3", json=storage)).json()["id"]
    checked(owner.post(f"/api/storages/s3/{number}/sync", timeout=300))
    parameters: dict[str, Any] = {"project": project, "page_size": 1000, "resolve_uri": "false"}
    found = checked(owner.get("/api/tasks", params=parameters)).json()["tasks"]
    return project, {next(iter(task["data"].values())): task["id"] for task in found}


def test_images_in_s3(
    label_studio: LabelStudioServer,
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_backend: Callable[..., BackendProcess],
    s3: S3,
    open_services: Callable[[Settings], Services],
) -> None:
    pictures = {}
    for number, picture in enumerate(catalogue[::6]):
        name = f"set {number % 3}/{number}#ä&100%.jpg"  # names that an address could cut
        for bucket in ("sent", "signed"):
            s3.put(bucket, name, picture.file.read_bytes(), "image/jpeg")
        pictures[f"s3://sent/{name}"] = picture
    config = label_config(picture.path for picture in catalogue)
    project, task_ids = synchronised(owner, s3, "sent", config, presign=False)
    assert task_ids.keys() == pictures.keys()
    *labelled, open_uri = pictures
    for uri in labelled:
        body = {**annotation(pictures[uri]), "lead_time": 3.0}
        checked(owner.post(f"/api/tasks/{task_ids[uri]}/annotations/", json=body))

    backend = make_backend(**SETTINGS)
    settings = {**SETTINGS, "label_studio_url": label_studio.url, "label_studio_api_key": label_studio.owner.token}
    services = open_services(Settings(home=backend.home, port=backend.port, **settings))
    backend.command("connect", "--project", str(project), "--yes")
    backend.command("sync", "--project", str(project))
    champion = services.registry.champion
    eventually("a model\n" + backend.said(), lambda: champion(f"project-{project}"), timeout=240)
    assert services.catalog.count(str(project), labelled=True) == len(labelled)
    assert {document.projects[str(project)].uri for document in services.catalog.documents(str(project))} == {*pictures}

    def suggestions() -> list[dict[str, Any]]:
        found = checked(owner.get(f"/api/tasks/{task_ids[open_uri]}/")).json()["predictions"]
        own = [prediction for prediction in found if prediction["model_version"].startswith("taxonomist-v")]
        return [prediction for prediction in own if prediction["result"]]

    eventually("a suggestion\n" + backend.said(), suggestions, timeout=120)
    # the panel gets the address that Label Studio shows to browsers
    shown = next(iter(checked(owner.get(f"/api/tasks/{task_ids[open_uri]}/")).json()["data"].values()))
    assert shown.startswith("http")
    assert "/resolve/?fileuri=" in shown
    assert image_id(shown) == image_id(open_uri)
    key = services.credentials.project_key(str(project))
    page = httpx.get(f"{backend.url}/similar?project={project}&key={key}&src={shown}", timeout=60)
    assert sum(map(int, re.findall(r"<h3>(\d+) ×", page.text))) == 8, page.text
    thumbnail = page.text.split('<img src="')[1].split('"')[0].replace("&amp;", "&")
    assert httpx.get(urljoin(str(page.url), thumbnail), timeout=60).headers["Content-Type"] == "image/jpeg"

    # with pre-signed URLs, the store's host must be allowed
    signed, _ = synchronised(owner, s3, "signed", config, presign=True)
    backend.command("connect", "--project", str(signed), "--yes")
    check = next(check for check in run_checks(services, str(signed)) if check.name == "image")
    assert check.status == "fail"
    assert f'Add "{s3.host}" to TAXONOMIST_ALLOWED_IMAGE_HOSTS' in check.fix
    allowed = open_services(Settings(home=backend.home, port=backend.port, **settings, allowed_image_hosts=[s3.host]))
    check = next(check for check in run_checks(allowed, str(signed)) if check.name == "image")
    assert check.status == "ok", check
    for uri, picture in list(pictures.items())[:3]:
        assert allowed.images(str(signed)).read(uri.replace("sent", "signed")) == picture.file.read_bytes()
        assert services.images(str(project)).read(uri) == picture.file.read_bytes()
    with pytest.raises(ImageForbiddenError, match="no storage"):
        services.images(str(project)).read("s3://another/a.jpg")
    with pytest.raises(ImageUnavailableError, match="credentials"):
        services.images(str(project)).read("s3://sent/none.jpg")
