"""Two images in a task of a real Label Studio: labels by webhook and by a pass, suggestions, panels; each by image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.project import CatalogueImage, create_project, label_config
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.image_ids import image_id
from tests.backend_process import BackendProcess
from tests.e2e.in_process import MakeProject
from tests.waiting import eventually

SETTINGS = {
    "views": 1,
    "target_precision": 0.02,
    "retrain_after": 2,
    "retrain_every": 1000,
    "head": "mlp",  # suggests something, however poor it is
    "password": "e2e-password",
}
SIDES = ("left", "right")


def two_images(catalogue: tuple[CatalogueImage, ...], url: str) -> str:
    """Return a config with two images, each with the catalogue's taxonomy; the right one's address is a template.

    Label Studio's server, unlike its editor, takes all of `$folder/$image2` for one name of a field.
    """
    one = label_config(picture.path for picture in catalogue)
    taxonomy = one[one.index("<Taxonomy") : one.index("</Taxonomy>") + len("</Taxonomy>")]
    views = []
    for side, value in zip(SIDES, ("$image1", f"{url}$image2"), strict=True):
        control = taxonomy.replace('name="category" toName="image"', f'name="class-{side}" toName="img-{side}"')
        assert control != taxonomy
        views.append(f'<View><Image name="img-{side}" value="{value}"/>{control}</View>')
    return f"<View>{''.join(views)}</View>"


def test_two_images_in_a_task(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    catalogue: tuple[CatalogueImage, ...],
    make_project: MakeProject,
    make_backend: Callable[..., BackendProcess],
) -> None:
    _, pictures = make_project("Pictures of pairs", catalogue[::6])
    pairs = list(pairwise(pictures))
    project = create_project(owner, "Pairs", two_images(catalogue, label_studio.url))
    datas = [{"image1": left.uri, "image2": right.uri} for left, right in pairs]
    checked(owner.post(f"/api/projects/{project}/import", json=[{"data": data} for data in datas]))
    found = checked(owner.get("/api/tasks", params={"project": project, "page_size": 1000})).json()["tasks"]
    task_of = {task["data"]["image1"]: task for task in found}
    tasks = [task_of[left.uri] for left, _ in pairs]

    def annotate(numbers: range) -> None:
        for person in annotators:
            with person.client(label_studio.url) as client:
                for number in numbers:
                    body = {"result": regions(pairs[number]), "lead_time": 3.0}
                    checked(client.post(f"/api/tasks/{tasks[number]['id']}/annotations/", json=body))

    last = len(pairs) - 3
    annotate(range(last))  # before the backend is connected: no webhook tells of these
    backend = make_backend(**SETTINGS)
    services = Services(Settings(home=backend.home, password=SETTINGS["password"], port=backend.port))

    def accepted(uri: str) -> dict[str, Any]:
        document = services.catalog.get(image_id(uri))
        labels = document.projects.get(str(project)) if document else None
        return labels.accepted if labels else {}

    backend.command("connect", "--project", str(project), "--yes")
    config = checked(owner.get(f"/api/projects/{project}")).json()["label_config"]
    assert [address.partition("&src=")[2] for address in panels_in(config)] == ["$image1", f"{label_studio.url}$image2"]
    backend.command("sync", "--project", str(project))
    # each picture but the first and the last is the right one of a pair and the left one of the next
    for number, (left, right) in enumerate(pairs[:last]):
        assert accepted(left.uri)["class-left"] == [list(left.image.path)], number
        assert accepted(right.uri)["class-right"] == [list(right.image.path)], number
    assert accepted(pairs[0][0].uri).keys() == {"class-left"}

    annotate(range(last, last + 1))  # by webhook
    left, right = pairs[last]
    eventually(
        "the webhook's labels\n" + backend.said(),
        lambda: "class-left" in accepted(left.uri) and accepted(right.uri) == {"class-right": [list(right.image.path)]},
    )
    champion = services.registry.champion
    eventually("a model\n" + backend.said(), lambda: champion(f"project-{project}"), timeout=240)

    def suggested() -> list[dict[str, Any]]:
        task = checked(owner.get(f"/api/tasks/{tasks[-1]['id']}/")).json()
        own = [p for p in task["predictions"] if p["result"] and p["model_version"].startswith("taxonomist-v")]
        return own[-1]["result"] if own else []

    parts = eventually("suggestions for the open task\n" + backend.said(), suggested, timeout=120)
    assert {(part["from_name"], part["to_name"]) for part in parts} <= {
        (f"class-{side}", f"img-{side}") for side in SIDES
    }
    checks = {check.name: check for check in run_checks(services, str(project))}
    assert [checks[name].status for name in ("taxonomy", "image", "look-alike panel")] == ["ok"] * 3, checks
    assert "class-right with" in checks["taxonomy"].detail


def regions(pair: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [
        {
            "from_name": f"class-{side}",
            "to_name": f"img-{side}",
            "type": "taxonomy",
            "value": {"taxonomy": [list(task.image.path)]},
        }
        for side, task in zip(SIDES, pair, strict=True)
    ]
