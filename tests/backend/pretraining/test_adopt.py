"""The adoption of a backbone: all or nothing, decided on the test images."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taxonomist.backend.label_studio.requests import PredictRequest, Task
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.look_alikes import LookAlikes
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.pretraining.adopt import Adoption, adopt, embed_catalogue
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store
from taxonomist.backend.pretraining.state import StoppedError, pretraining_folder, read_state
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.retraining.training_job import train_head
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.registry import ModelVersion
from tests.small_world import CONFIG, SIZE, publish_backbone, publish_poor_backbone, write_catalogue
from tests.waiting import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def silent(step: str, share: float) -> None: ...


def never() -> bool:
    return False


def test_a_better_backbone_comes_with_its_heads_and_goes_with_them(poor: Services, better: ModelVersion) -> None:
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    steps: list[float] = []
    outcome = adopt(poor, better, lambda step, share: steps.append(share), never)
    assert outcome.startswith(
        "Backbone v2 is served now, with taxonomist-v2 of project 7. It is better: macro-F1 1.000"
    )
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v2"}
    assert poor.registry.get("project-7", "v2").head_manifest.backbone == "v2"
    assert steps == sorted(steps)
    assert all(0 <= share <= 1 for share in steps)
    assert [job.project for job in poor.jobs.waiting() if job.kind is JobKind.EMBED] == ["7"]
    poor.registry.rollback("project-7")
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}


def test_a_worse_backbone_stays_a_candidate(trained: Services) -> None:
    served = trained.registry.champions()
    outcome = adopt(trained, publish_poor_backbone(trained, promote=False), silent, never)
    assert outcome.startswith("Backbone v2 stays a candidate: Project 7 would lose")
    assert trained.registry.champions() == served
    assert len(trained.registry.versions("project-7")) == 2


def test_without_test_images_it_stays_a_candidate(world: Services) -> None:
    outcome = adopt(world, publish_backbone(world, promote=False), silent, never)
    assert "stays a candidate: No project has both a model and test images" in outcome
    assert world.registry.champions() == {"backbone": "v1"}


def test_a_champion_that_has_changed_is_compared_again(poor: Services, better: ModelVersion) -> None:
    newer = train_head(poor, "7", silent, poor.registry.get("backbone", "v1"), promote=False).version.version

    def meanwhile(step: str, share: float) -> None:
        if step == "head 1 of 1, publishing":
            poor.registry.promote("project-7", newer)

    adopt(poor, better, meanwhile, never)
    adoption = read_state(pretraining_folder(poor.settings.home) / "adoption.json", Adoption)
    assert adoption is not None
    assert adoption.judged["7"].champion == newer == "v2"
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v4"}
    poor.registry.rollback("project-7")
    assert poor.registry.champions() == {"backbone": "v1", "project-7": newer}


def test_a_stopped_adoption_resumes(poor: Services, better: ModelVersion) -> None:
    looks = iter([False, True])
    with pytest.raises(StoppedError):
        adopt(poor, better, silent, lambda: next(looks))
    assert len(poor.embeddings("v2")) == 32
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    adopt(poor, better, silent, never)
    assert poor.registry.champions()["backbone"] == "v2"


def test_stopped_while_a_head_is_trained_nothing_has_changed(poor: Services, better: ModelVersion) -> None:
    seen: list[str] = []
    with pytest.raises(StoppedError):
        adopt(poor, better, lambda step, share: seen.append(step), lambda: "head 1 of 1, training" in seen)
    assert seen[-1] == "head 1 of 1, training"
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}


def test_a_head_is_not_trained_twice(poor: Services, better: ModelVersion) -> None:
    adopt(poor, better, silent, never)
    poor.registry.rollback("backbone")
    adopt(poor, better, silent, never)
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v2"}
    assert len(poor.registry.versions("project-7")) == 2


def test_prepared_images_are_embedded_as_serving_does(poor: Services, better: ModelVersion) -> None:
    documents = list(poor.catalog.documents("7"))
    uris = {document.id: document.projects["7"].uri for document in documents}
    prepare_all(poor, SIZE)
    served = embed(poor, "7", uris, publish_backbone(poor, promote=False).version)
    poor.projects.update("7", image_folders=())  # so no image can be read
    embed_catalogue(poor, better, lambda share: None, never)
    found, vectors = poor.embeddings("v2").get(list(uris))
    assert found.all()
    np.testing.assert_array_equal(vectors, np.stack([served.vectors[id] for id in uris]))


def test_other_images_are_read_and_unreadable_ones_skipped(poor: Services, better: ModelVersion) -> None:
    documents = list(poor.catalog.documents("7"))
    for document in documents[:2]:
        gone = ProjectLabels(uri=document.projects["7"].uri + ".gone")
        poor.catalog.put(document.in_project("7", gone))
    store = prepared_image_store(poor, SIZE)
    store.append([documents[0].id], np.zeros((1, SIZE, SIZE, 3), np.uint8))
    embed_catalogue(poor, better, lambda share: None, never)
    ids = set(poor.embeddings("v2").snapshot()[0])
    assert ids == {document.id for document in documents} - {documents[1].id}


def test_a_retraining_is_compared_with_a_champion_of_another_backbone(poor: Services, better: ModelVersion) -> None:
    """A project keeps its head when the backbone is promoted without one for it."""
    poor.registry.promote("backbone", "v2")
    outcome = train_head(poor, "7", silent, better)
    assert outcome.promoted
    assert outcome.reason.startswith("It is not worse: hierarchical F1 1.000")


def test_a_project_whose_versions_a_person_promotes_keeps_its_suggestions_until_then(
    poor: Services, better: ModelVersion, tmp_path: Path
) -> None:
    poor.projects.update("7", settings=ProjectChoices(promotion="manual"))
    uris = [document.projects["7"].uri for document in poor.catalog.documents("7")][:4]
    before = suggestions(poor, uris)
    assert {answer["model_version"] for answer in before} == {"taxonomist-v1"}

    outcome = adopt(poor, better, silent, never)
    assert outcome.startswith("Backbone v2 is served now. It is better: macro-F1 1.000")
    assert "taxonomist models promote v2 --project 7 serves the new one" in outcome
    assert poor.registry.champions() == {"backbone": "v2", "project-7": "v1"}
    assert suggestions(poor, uris) == before

    # An image that is labelled afterwards gets suggestions, and is a look-alike of others.
    more = write_catalogue(tmp_path / "more", 4, first=80)
    import_manifest(poor, more, "7", options=ManifestOptions(source="more"))
    embed_all(poor, "7", silent)
    new = [
        document.id for document in poor.catalog.documents("7") if str(tmp_path / "more") in document.projects["7"].uri
    ]
    assert len(new) == 4
    for backbone in ("v1", "v2"):
        assert poor.embeddings(backbone).get(new)[0].all()
    vector = poor.embeddings("v1").get(new[:1])[1][0]
    assert new[0] in {look_alike.image_id for look_alike in LookAlikes(poor).shown("7", vector, "v1", k=100)}

    poor.registry.promote("project-7", "v2")
    assert {answer["model_version"] for answer in suggestions(poor, uris)} == {"taxonomist-v2"}


def suggestions(services: Services, uris: list[str]) -> list[dict[str, Any]]:
    tasks = [Task.model_validate({"id": n, "data": {"image": uri}}) for n, uri in enumerate(uris)]
    return Predictor(services).predict(PredictRequest(tasks=tasks, label_config=CONFIG, project="7"))


NURSERY = """
import os, random, signal, sys, time
import onnxruntime, torch, matplotlib.pyplot, sklearn.metrics
import taxonomist.training.heads.train_project
from taxonomist.backend.pretraining.adopt import adopt
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
torch.set_num_threads(1)
home, rounds, chance = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
longest = 0.0
for number in range(rounds):
    print(number, flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    if (child := os.fork()) == 0:
        services = Services(Settings(home=home, head_epochs=10, views=1))
        adopt(services, services.registry.get("backbone", "v2"), lambda step, share: None, lambda: False)
        os._exit(0)
    if number:
        time.sleep(chance.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    longest = longest or time.monotonic() - began  # of the first run, which is not killed
"""


class Server(threading.Thread):
    """Requests predictions all the time, as Label Studio does; keeps the serving versions and the errors."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.services = Services(Settings(home=home))
        self.seen: set[tuple[str, str]] = set()
        self.problems: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        predictor = Predictor(self.services)
        uris = [document.projects["7"].uri for document in self.services.catalog.documents("7")][:8]
        tasks = [Task.model_validate({"id": n, "data": {"image": uri}}) for n, uri in enumerate(uris)]
        request = PredictRequest(tasks=tasks, label_config=CONFIG, project="7")
        while not self.ended.wait(0.02):
            try:
                self._look(predictor.predict(request))
            except Exception as error:
                self.problems.append(repr(error))

    def _look(self, answers: list[dict[str, Any]]) -> None:
        registry = self.services.registry
        champions = registry.champions()
        self.seen.add((champions["backbone"], champions["project-7"]))
        if registry.get("project-7", champions["project-7"]).head_manifest.backbone != champions["backbone"]:
            self.problems.append(f"a mix: {champions}")
        known = {f"taxonomist-{version.version}" for version in registry.versions("project-7")}
        if not {answer["model_version"] for answer in answers} <= known:
            self.problems.append(f"an unknown version: {answers}")


@pytest.mark.slow
def test_killed_at_any_moment_the_served_versions_fit_together(poor: Services, better: ModelVersion) -> None:
    """The adoption is killed and started again many times while a server answers; then it runs to its end."""
    home, rounds, came_to_its_end = poor.settings.home, 16, 0
    server = Server(home)
    server.start()
    try:
        nursery = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(home), str(rounds), "5"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for number in range(rounds):
            assert nursery.stdout.readline() == f"{number}\n"
            if poor.registry.champion("backbone") == "v2":
                came_to_its_end += 1
                poor.registry.rollback("backbone")
                (pretraining_folder(home) / "adoption.json").unlink()  # another head, please
            nursery.stdin.write("\n")
            nursery.stdin.flush()
        nursery.communicate(timeout=120)
        assert nursery.returncode == 0
        for name in poor.registry.names():
            for version in poor.registry.versions(name):
                poor.registry.verify(version)
        adopt(poor, better, silent, never)
        eventually("it serves the new one", lambda: any(backbone == "v2" for backbone, _ in server.seen))
    finally:
        server.ended.set()
        server.join()
    assert server.problems == []
    assert 0 < came_to_its_end < rounds - 1  # kills fell before and after the promotion


def test_a_project_whose_labels_wait_for_a_person_keeps_its_head(poor: Services, better: ModelVersion) -> None:
    poor.projects.update("7", label_config=CONFIG.replace('"Red"', '"Scarlet"'))
    outcome = adopt(poor, better, silent, never)
    assert "No project has both a model and test images" in outcome
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    assert len(poor.registry.versions("project-7")) == 1
