"""The promise in a real Label Studio: what three tasks show, drift that is noticed, and a renamed node."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from pydantic import SecretStr

from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.demo.annotators import Answer, annotate
from taxonomist.backend.demo.project import CatalogueImage, DemoTask, create_project, label_config, upload
from taxonomist.backend.demo.server import LabelStudioServer
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.paths import TaxonomyPath
from tests.backend_process import BackendProcess
from tests.images import encoded
from tests.waiting import eventually

GREEN, BLUE, RED, YELLOW, GREY = (
    ("Cold", "Green"), ("Cold", "Blue"), ("Warm", "Red"), ("Warm", "Yellow"), ("Neutral", "Grey")
)  # fmt: skip
TREE = (GREEN, BLUE, RED, YELLOW, GREY, *(("Neutral", name) for name in ("Black", "Brown", "White")))
LABELS = {"plain": (GREEN, GREEN), "squares": (RED, YELLOW), "disc": (BLUE, GREY)}
"""By kind of image the labels that it gets in turn: always one, one of two siblings, one of two of other parents."""
LABELLED, DRIFTED = 20, 14  # images of each kind; plain ones that are corrected
PASSWORD = "e2e-password"
SETTINGS: dict[str, object] = {
    "head": "lda",
    "min_annotators": 1,
    "product_field": "product",
    "retrain_after": 100_000,
    "retrain_every": 100_000,
    "password": PASSWORD,
}


@dataclass
class Project:
    """A project of the real Label Studio and what our server says about it."""

    label_studio: LabelStudioServer
    owner: httpx.Client
    backend: BackendProcess
    services: Services
    annotator: Account
    number: int

    def command(self, *arguments: str) -> str:
        return self.backend.command(*arguments, "--project", str(self.number)).stdout

    def config(self) -> str:
        return str(checked(self.owner.get(f"/api/projects/{self.number}")).json()["label_config"])

    def annotate(self, labels: dict[DemoTask, TaxonomyPath]) -> None:
        answers = [Answer(task.id, 0, (path,)) for task, path in labels.items()]
        annotate(self.label_studio.url, [self.annotator], answers)

    def wait_for_prediction(self, task: DemoTask, path: TaxonomyPath) -> None:
        """Wait until the first version pre-fills a task with that path; () leaves it empty."""

        def is_shown() -> bool:
            return any(
                (tuple(found["result"][0]["value"]["taxonomy"][0]) if found["result"] else ()) == path
                for found in checked(self.owner.get(f"/api/tasks/{task.id}/")).json()["predictions"]
                if found["model_version"] == "taxonomist-v1"
            )

        self.eventually(f"task {task.id} shows {path}", is_shown)

    def panel(self, task: DemoTask) -> str:
        (address,) = panels_in(self.config())
        return checked(httpx.get(address.replace("$image", task.uri), trust_env=False)).text

    def metrics(self) -> str:
        return checked(httpx.get(f"{self.backend.url}/metrics", auth=("taxonomist", PASSWORD), trust_env=False)).text

    def labels(self) -> Counter[TaxonomyPath]:
        """Return how many images have each accepted label."""
        documents = self.services.catalog.documents(str(self.number), labelled=True)
        return Counter(path for document in documents for path in document.projects[str(self.number)].paths("category"))

    def diff(self) -> set[str]:
        """Return the nodes that are gone, with those in their place."""
        found = json.loads(self.command("taxonomy", "diff", "--json"))
        return {
            " → ".join(" › ".join(node[side]) for side in ("old", "new"))
            for node in (*found["certain"], *found["asked"])
        }

    def eventually(self, what: str, look: Callable[[], Any]) -> None:
        eventually(f"{what}\n{self.backend.said()}", look, timeout=60)


def images(folder: Path, kind: str, numbers: range) -> Iterator[CatalogueImage]:
    """Make images of one kind, with noise; each is a product."""
    rows, columns = np.mgrid[:48, :48]
    shape = {
        "plain": rows < 0,
        "squares": (rows // 8 + columns // 8) % 2 == 0,
        "disc": (rows - 24) ** 2 + (columns - 24) ** 2 < 200,
    }[kind]
    for number in numbers:
        noise = np.random.default_rng(number).normal(0, 18, (48, 48, 3))
        pixels = np.where(shape[..., None], (225, 85, 195), (30, 170, 60)) + noise
        file = folder / f"{kind}-{number}.jpg"
        file.write_bytes(encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=92))
        yield CatalogueImage(file, LABELS[kind][number % 2], file.stem)


def test_three_tasks_then_drift_then_a_renamed_node(
    label_studio: LabelStudioServer,
    annotators: list[Account],
    owner: httpx.Client,
    make_backend: Callable[..., BackendProcess],
    tmp_path: Path,
) -> None:
    number = create_project(owner, "The promise", label_config(TREE), annotators=1)
    last = LABELLED + 1  # one of each kind stays open
    files = [image for kind in LABELS for image in images(tmp_path, kind, range(last))]
    files += images(tmp_path, "plain", range(last, last + DRIFTED))
    tasks = {task.image.file.stem: task for task in upload(owner, number, files)}
    backend = make_backend(**SETTINGS)
    services = Services(Settings(home=backend.home, port=backend.port, password=SecretStr(PASSWORD)))
    with closing(services):
        project = Project(label_studio, owner, backend, services, annotators[0], number)
        suggestions(project, tasks)
        drift(project, [tasks[f"plain-{image}"] for image in range(last, last + DRIFTED)], tasks[f"plain-{LABELLED}"])
        rename(project)


def suggestions(project: Project, tasks: dict[str, DemoTask]) -> None:
    labelled = [tasks[f"{kind}-{image}"] for kind in LABELS for image in range(LABELLED)]
    labels = {task: task.image.path for task in labelled}
    project.annotate(labels)
    project.command("connect", "--yes")
    project.eventually("the labels", lambda: project.labels() == Counter(labels.values()))
    project.command("train")
    path, parent, listed = (tasks[f"{kind}-{LABELLED}"] for kind in LABELS)
    for task, shown in ((path, GREEN), (parent, ("Warm",)), (listed, ())):
        project.wait_for_prediction(task, shown)
    panels = [project.panel(task) for task in (path, parent, listed)]
    assert ["Probably one of these" in panel for panel in panels] == [False, False, True]
    offers = re.findall('<li class="offer" title="(.*)">', panels[2])
    assert sorted(offers) == ["Cold › Blue", "Neutral › Grey"]


def drift(project: Project, drifted: list[DemoTask], left: DemoTask) -> None:
    labels = f'control="category",project="{project.number}",version="v1"'
    assert f"taxonomist_promise_broken{{{labels}}} 0.0" in project.metrics()
    for task in drifted:
        project.wait_for_prediction(task, GREEN)
    project.annotate(dict.fromkeys(drifted, GREY))
    project.eventually("the alarm", lambda: f"taxonomist_promise_broken{{{labels}}} 1.0" in project.metrics())
    assert f"taxonomist_suggestion_floor{{{labels}}} +Inf" in project.metrics()
    project.wait_for_prediction(left, ())
    project.eventually("the corrections", lambda: project.labels()[GREY] == DRIFTED + LABELLED // 2)


def rename(project: Project) -> None:
    before = project.labels()
    config = project.config()
    for old, new in (("Cold", "Cool"), ("Yellow", "Golden")):
        assert config.count(f'value="{old}"') == 1
        config = config.replace(f'value="{old}"', f'value="{new}"')
    checked(project.owner.patch(f"/api/projects/{project.number}", json={"label_config": config}))
    # The first is certain, since the same nodes are below it; about the second a person decides.
    project.eventually("a diff", lambda: project.diff() == {"Cold → Cool", "Warm › Yellow → Warm › Golden"})
    assert "Training still waits" in project.command("taxonomy", "apply", "--yes")
    mapped = project.command("taxonomy", "apply", "--map", "Warm / Yellow = Warm / Golden", "--yes")
    assert "Nothing holds back the training." in mapped
    now: dict[TaxonomyPath, TaxonomyPath] = {
        GREEN: ("Cool", "Green"),
        BLUE: ("Cool", "Blue"),
        YELLOW: ("Warm", "Golden"),
    }
    after = Counter({now.get(path, path): count for path, count in before.items()})
    project.eventually("the labels", lambda: project.labels() == after)
    project.command("train")
    labels = f'control="category",project="{project.number}",version="v2"'
    project.eventually("v2", lambda: f"taxonomist_promise_broken{{{labels}}} 0.0" in project.metrics())
