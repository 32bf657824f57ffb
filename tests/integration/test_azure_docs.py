"""The Azure pages cannot go stale: their settings, their commands, and what they say about requests."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient

import emulators
from taxonomist.backend.azure.accounts import cosmos_access
from taxonomist.backend.data_stages.fetch import run_fetch
from taxonomist.backend.data_stages.query import QueryOptions, run_query
from taxonomist.backend.label_studio.requests import PredictRequest, Task
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.cosmos_install import install
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.catalog.label_query import LabelQuery
from tests.backend.azure.test_ml_job_steps import task
from tests.backend.command_line import check
from tests.fault_proxy import FaultProxy, Request, fault_proxy
from tests.small_world import CONFIG, PATHS, SIZE, image_bytes, publish_backbone

LOOKED_AT_FIRST = 16  # of a batch of new documents, as the guide says

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to" / "azure").glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
OURS = re.compile("azure_|cosmos_|blob_|models_container|allow_private")


def test_every_setting_is_named() -> None:
    for name in filter(OURS.match, Settings.model_fields):
        assert f"| `TAXONOMIST_{name.upper()}` |" in TEXT, name


def test_every_setting_that_is_named_is_one() -> None:
    named = {name.lower() for name in re.findall(r"TAXONOMIST_([A-Z_]+)", TEXT)}
    assert named - {"home"} <= set(Settings.model_fields)


def commands() -> list[str]:
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [re.sub(r"\$\([^()]*\)|\$\w+", "x", line) for line in lines if line.startswith("taxonomist ")]


@pytest.mark.parametrize("command", commands())
def test_our_command_line_takes_every_command(command: str, tmp_path: Path) -> None:
    check(shlex.split(command)[1:], Services(Settings(home=tmp_path)))


# --- requests


def kind(request: Request) -> str:
    """Return the column of a request to Cosmos DB."""
    if "/docs" not in request.path:
        return "opening"
    if request.method == "GET":
        return "reads"
    return "queries" if "query+json" in request.headers.get("content-type", "") else "writes"


def row(text: str) -> list[int]:
    """Return the numbers of the row that starts with `text` in the tables of requests."""
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {text}")]
    return [int(cell) if cell.strip() else 0 for cell in line.strip("|").split("|")[1:4]]


def counted(proxy: FaultProxy) -> list[int]:
    """Return reads, writes and queries since the last call."""
    count = Counter(map(kind, proxy.requests))
    proxy.use()
    assert set(count) <= {"reads", "writes", "queries"}
    return [count[name] for name in ("reads", "writes", "queries")]


@pytest.fixture
def cosmos(cosmos_server: emulators.Cosmos) -> Iterator[FaultProxy]:
    with fault_proxy(cosmos_server.port) as proxy:
        yield proxy


@pytest.mark.slow
def test_requests_to_cosmos(cosmos_server: emulators.Cosmos, cosmos: FaultProxy, tmp_path: Path) -> None:
    text = cosmos_server.connection_string.replace(str(cosmos_server.port), str(cosmos.port))
    settings = Settings(home=tmp_path, cosmos_connection_string=text, cosmos_database=uuid4().hex)
    install(cosmos_access(settings))
    catalog = Services(settings).catalog

    def hashed(text: str | None) -> ImageDocument:
        return catalog.update("a.jpg", lambda before: before.model_copy(update={"file_hash": text}))

    cosmos.use()
    catalog.get("a.jpg")
    assert Counter(map(kind, cosmos.requests)) == {"opening": 3, "reads": 1}
    assert "opens the account and its container, 3 requests" in TEXT
    cosmos.use()
    for text in ("new", "changed"):
        hashed(text)
        assert counted(cosmos) == row("a document that is new or changed")
    hashed("changed")
    assert counted(cosmos) == row("a document that need not be changed")
    catalog.get("a.jpg")
    assert counted(cosmos) == row("a document that is looked at")
    catalog.count("4", labelled=True)
    assert counted(cosmos) == row("counting")
    list(catalog.documents())
    assert counted(cosmos) == row("a label query, or a list, of up to 2,499 documents")
    list(catalog.find(LabelQuery(include=("Warm",), exclude=("Cold",), min_annotators=2)))
    assert counted(cosmos) == row("a label query, or a list, of up to 2,499 documents")
    catalog.close()


def upload(azurite: emulators.Blob, count: int) -> str:
    """Make a container with `count` images, `0.jpg` and so on; return its name."""
    container = uuid4().hex
    with BlobServiceClient.from_connection_string(azurite.connection_string, api_version="2026-06-06") as client:
        client.create_container(container)
        for number in range(count):
            data = image_bytes(PATHS[number % len(PATHS)], number)
            client.get_blob_client(container, f"{number}.jpg").upload_blob(data)
    return container


@pytest.mark.slow
def test_requests_for_images(azurite: emulators.Blob, tmp_path: Path) -> None:
    container = upload(azurite, 1)
    with fault_proxy(azurite.port) as proxy:
        services = Services(Settings(home=tmp_path, blob_connection_string=azurite.through(proxy.port)))
        images = services.blob_images
        assert images is not None
        for text in ("an image of up to 4 MiB", "the same image again"):
            images.read(f"azure-blob://{container}/0.jpg")
            methods = [request.method for request in proxy.requests]
            assert [methods.count("GET"), methods.count("PUT")] == row(text)[:2]
            assert len(methods) == 1
            proxy.use()
        services.blob_account.close()


@pytest.mark.slow
def test_requests_of_what_people_do(
    cosmos_server: emulators.Cosmos, cosmos: FaultProxy, azurite: emulators.Blob, tmp_path: Path
) -> None:
    count = 40
    container = upload(azurite, count + 1)
    export = tmp_path / "export.json"
    export.write_text(json.dumps([task(container, number) for number in range(count)]))

    def per_image(once: str) -> list[float]:
        """Return the requests for each image, without those that the row `once` counts."""
        return [(all - first) / count for all, first in zip(counted(cosmos), row(once), strict=True)]

    with fault_proxy(azurite.port) as blobs:
        text = cosmos_server.connection_string.replace(str(cosmos_server.port), str(cosmos.port))
        settings = Settings(
            home=tmp_path / "home",
            min_annotators=1,
            head_epochs=5,
            views=1,
            cosmos_connection_string=text,
            cosmos_database=uuid4().hex,
            blob_connection_string=azurite.through(blobs.port),
        )
        install(cosmos_access(settings))
        services = Services(settings)
        publish_backbone(services)
        services.projects.update("7", label_config=CONFIG)
        services.catalog.count()
        cosmos.use()

        import_export(services, export, project="7")
        reads, writes, queries = row("`taxonomist import` of an export, for each labelled image that is new")
        looked_at, *others = per_image("`taxonomist import`, once")
        assert looked_at * count == (reads - 1) * LOOKED_AT_FIRST + count
        assert others == [writes, queries]
        import_export(services, export, project="7")
        known = row("`taxonomist import` of an export, for each image that it has brought before")
        assert per_image("`taxonomist import`, once") == known

        for when, images_read in (("the first time", count), ("later", 0)):
            blobs.use()
            train(services, "7", lambda step, share: None)
            assert len(blobs.requests) == images_read
            documented = row(f"`taxonomist train`, for each labelled image {when}")
            assert per_image("`taxonomist train`, once") == documented

        blobs.use()
        predictor = Predictor(services)
        predictor.predict(asked(container, 1, 2))
        assert (counted(cosmos), len(blobs.requests)) == (row("a prediction of images that were embedded before"), 0)
        predictor.predict(asked(container, count))
        assert (counted(cosmos), len(blobs.requests)) == (row("a prediction of an image that was not"), 1)

        run_query(services, LabelQuery(), tmp_path / "set")
        assert counted(cosmos) == row("`taxonomist data query` ")
        run_query(services, LabelQuery(), tmp_path / "set", QueryOptions(reasons=False))
        assert counted(cosmos) == row("`taxonomist data query --no-reasons`")
        blobs.use()
        for missing in (count + 1, 0):  # the predicted one is in the catalogue, too
            run_fetch(services, tmp_path / "set", tmp_path / "images", SIZE)
            assert (counted(cosmos), len(blobs.requests)) == (row("`taxonomist data fetch`, once"), missing)
            blobs.use()
        services.catalog.close()
        services.blob_account.close()


def asked(container: str, *numbers: int) -> PredictRequest:
    tasks = [Task(id=number, data={"image": f"azure-blob://{container}/{number}.jpg"}) for number in numbers]
    return PredictRequest(tasks=tasks, label_config=CONFIG, project="7")
