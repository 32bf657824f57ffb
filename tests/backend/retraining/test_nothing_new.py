"""A training without new labels makes no version."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taxonomist.backend.label_studio.requests import parse_predict
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.job_loop import JobLoop
from taxonomist.storage.registry.manifest_file import manifest_bytes, sealed
from tests.small_world import CONFIG, publish_backbone, write_catalogue

pytestmark = pytest.mark.slow


def silent(step: str, share: float) -> None: ...


def versions(services: Services) -> list[str]:
    return [version.version for version in services.registry.versions("project-7")]


@pytest.fixture
def home(trained: Services) -> Services:
    trained.settings = Settings(home=trained.settings.home, head_epochs=3, views=0)
    train(trained, "7", silent)
    assert versions(trained) == ["v1", "v2"]
    return trained


@pytest.fixture(autouse=True)
def _manifest_as_before(trained_home: Path) -> Iterator[None]:
    """The catalogue is shared by all tests of the session."""
    manifest = trained_home.parent / "catalogue" / "manifest.csv"
    before = manifest.read_bytes()
    yield
    manifest.write_bytes(before)


def folder_of(services: Services) -> Path:
    return services.projects.get("7").image_folders[0].folders[0].parent


def test_the_same_labels_make_no_version_and_the_log_says_so(home: Services, caplog: pytest.LogCaptureFixture) -> None:
    job = home.jobs.enqueue(JobKind.TRAIN, "7", "labels are new")
    with caplog.at_level("INFO"):
        loop = JobLoop(home, threading.Event())
        while loop.run_next():
            pass
    assert versions(home) == ["v1", "v2"]
    done = home.jobs.get(job.id)
    assert done is not None
    assert (done.state, done.outcome) == (
        JobState.DONE,
        "Nothing is trained: labels, settings and backbone are those of taxonomist-v2. "
        "`taxonomist train --project 7 --force` trains all the same.",
    )
    assert "Nothing is trained" in caplog.text
    train(home, "7", silent, force=True)
    assert versions(home) == ["v1", "v2", "v3"]


def test_what_only_looks_at_images_changes_nothing(home: Services) -> None:
    """New unlabelled images, and predictions, are no new labels."""
    more = write_catalogue(folder_of(home), 4, first=200)
    more.write_text("file\n" + "".join(f"{number:04d}.jpg\n" for number in range(200, 204)))
    import_manifest(home, more, "7", options=ManifestOptions(source="unlabelled"))
    body = {"tasks": [{"id": 1, "data": {"image": "0200.jpg"}}], "label_config": CONFIG, "project": "7"}
    UseCases(home).answer(parse_predict(body))
    assert train(home, "7", silent).startswith("Nothing is trained")


def new_label(services: Services) -> None:
    more = write_catalogue(folder_of(services), 1, first=300)
    import_manifest(services, more, "7", options=ManifestOptions(source="more"))


def changed_label(services: Services) -> None:
    manifest = write_catalogue(folder_of(services), 80)
    lines = manifest.read_text().splitlines()
    lines[5] = lines[5].replace("Warm,Red", "Warm,Yellow")
    manifest.write_text("\n".join(lines))
    import_manifest(services, manifest, "7")


def withdrawn_label(services: Services) -> None:
    manifest = write_catalogue(folder_of(services), 80)
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]))
    import_manifest(services, manifest, "7")


def changed_product(services: Services) -> None:
    manifest = write_catalogue(folder_of(services), 80)
    manifest.write_text(manifest.read_text().replace(",p8\n", ",p4\n"))
    import_manifest(services, manifest, "7")


def changed_setting(services: Services) -> None:
    services.settings = services.settings.model_copy(update={"head_epochs": 4})


def changed_setting_of_the_project(services: Services) -> None:
    record = services.projects.get("7")
    services.projects.update("7", settings=record.settings.model_copy(update={"target": 0.8}))


def changed_tree(services: Services) -> None:
    services.projects.update(
        "7", label_config=CONFIG.replace('<Choice value="Green"/>', '<Choice value="Green"/><Choice value="Teal"/>')
    )


def another_backbone(services: Services) -> None:
    publish_backbone(services)


@pytest.mark.parametrize(
    "change",
    [
        new_label,
        changed_label,
        withdrawn_label,
        changed_product,
        changed_setting,
        changed_setting_of_the_project,
        changed_tree,
        another_backbone,
    ],
)
def test_what_is_new_makes_a_version(home: Services, change: Callable[[Services], None]) -> None:
    change(home)
    assert not train(home, "7", silent).startswith("Nothing")
    assert versions(home) == ["v1", "v2", "v3"]
    assert train(home, "7", silent).startswith("Nothing is trained")


def test_a_version_of_an_earlier_release_is_trained_after(home: Services) -> None:
    path = home.registry.versions("project-7")[-1].path / "manifest.json"
    assert len(json.loads(path.read_text())["data"]["inputs"]) == 64
    manifest = json.loads(path.read_text())
    del manifest["data"]["inputs"]
    path.chmod(0o644)
    path.write_bytes(manifest_bytes(sealed(manifest)))
    train(Services(home.settings), "7", silent)
    assert versions(home) == ["v1", "v2", "v3"]


def test_what_was_never_served_because_of_a_kill_is_trained_again(home: Services) -> None:
    home.settings = Settings(home=home.settings.home, target_precision=0.8)  # the weights of v1, so it is not worse
    assert "taxonomist-v3 is served now" in train(home, "7", silent)
    (home.settings.home / "models" / "aliases.json").unlink()
    home.registry.promote("backbone", "v1")
    assert "is served now" in train(Services(home.settings), "7", silent)
