"""No product of the test part is in training: in a Label Studio project as the demo makes it, and in its export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import SecretStr

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.annotators import Outcome, annotate, plan
from taxonomist.backend.demo.project import PRODUCT, CatalogueImage
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.registry import ModelVersion
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject
from tests.waiting import eventually


def silent(step: str, share: float) -> None: ...


def check_split(services: Services, project: str, version: ModelVersion, catalogue: tuple[CatalogueImage, ...]) -> None:
    """Check the parts against the catalogue's own products, by the names of the files."""
    product_of = {image.file.name: image.product for image in catalogue}
    data = json.loads((version.path / "data.json").read_text())
    documents = services.catalog.get_many(image["id"] for image in data["images"])
    sides: dict[str, set[str]] = {"test": set(), "train": set()}
    for image in data["images"]:
        name = documents[image["id"]].projects[project].uri.rpartition("/")[2].partition("-")[2]
        assert image["product"] == product_of[name]
        sides[image["part"]].add(product_of[name])
    assert all(sides.values())
    assert not sides["test"] & sides["train"]
    assert version.head_manifest.caveats == ()
    assert version.head_manifest.tested is not None
    assert version.head_manifest.tested.products == len(sides["test"])


def test_no_product_is_both_tested_and_trained(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    make_backend: Callable[..., BackendProcess],
    tmp_path: Path,
) -> None:
    number, tasks = make_project("Products", catalogue[::4])
    project = str(number)
    truths = {task.id: task.image.path for task in tasks[:90]}
    taxonomy = sorted({image.path for image in catalogue})
    answers = plan(truths, taxonomy, shares={Outcome.AGREE: 1})
    annotate(label_studio.url, annotators, [answer for answer in answers if answer.annotator == 0])
    backend = make_backend(start=False, views=1)
    services = Services(Settings(home=backend.home, port=backend.port, views=1, backbone_weights="starter"))
    backend.start()
    said: list[str] = []
    asked: dict[str, str] = {}

    def choose(question: str, proposal: str) -> str:
        asked[question.split()[0]] = proposal
        return {"What": proposal, "How": "1"}[question.split()[0]]

    connected = connect_project(
        services, project, url=label_studio.url, api_key=label_studio.owner.token, ask=lambda _: True, say=said.append,
        choose=choose,
    )  # fmt: skip
    assert asked == {"What": PRODUCT, "How": "2"}
    assert (connected.product_field, connected.annotators) == (PRODUCT, 1)
    assert any(line.startswith("Products are named by product: ") for line in said)
    again = connect_project(
        services, project, url=None, api_key=None, ask=lambda _: True, say=said.append, choose=choose
    )
    assert (again.product_field, again.annotators) == (PRODUCT, 1)
    registry, name = services.registry, f"project-{project}"
    eventually(f"a model\n{backend.said()}", lambda: registry.champion(name) is not None, timeout=180)
    check_split(services, project, registry.versions(name)[0], catalogue)

    # The same project as an export, in another home.
    export = tmp_path / "export.json"
    export.write_bytes(checked(owner.get(f"/api/projects/{project}/export", params={"exportType": "JSON"})).content)
    config = tmp_path / "config.xml"
    config.write_text(services.projects.get(project).label_config)
    other = Services(
        Settings(
            home=tmp_path / "other",
            views=1,
            backbone_weights="starter",
            min_annotators=1,
            product_field=PRODUCT,
            label_studio_url=label_studio.url,
            label_studio_api_key=SecretStr(label_studio.owner.token),
        )
    )
    import_export(other, export, project="7", config=config)
    train(other, "7", silent)
    check_split(other, "7", other.registry.versions("project-7")[0], catalogue)


def test_a_products_field_that_is_corrected_in_label_studio_follows(
    label_studio: LabelStudioServer,
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    tmp_path: Path,
) -> None:
    number, tasks = make_project("Corrected product", catalogue[:3])
    project = str(number)
    services = Services(
        Settings(
            home=tmp_path / "home",
            product_field=PRODUCT,
            label_studio_url=label_studio.url,
            label_studio_api_key=SecretStr(label_studio.owner.token),
        )
    )
    sync(services, project, silent)
    groups = {d.projects[project].task_id: d.projects[project].group for d in services.catalog.documents(project)}
    assert groups == {str(task.id): task.image.product for task in tasks}
    task = tasks[0]
    checked(owner.patch(f"/api/tasks/{task.id}/", json={"data": {"image": task.uri, PRODUCT: "another"}}))
    sync(services, project, silent)
    groups = {d.projects[project].task_id: d.projects[project].group for d in services.catalog.documents(project)}
    assert groups[str(task.id)] == "another"
