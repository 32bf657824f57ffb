"""The status of a home: the same values as text and as JSON, quickly, and without a change."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import SecretStr

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.status import ProjectStatus, collect_status, status_lines
from taxonomist.backend.worker.worker import Worker
from taxonomist.storage.catalog import SqliteCatalog
from taxonomist.storage.journal import Journal, TaskSaved
from taxonomist.storage.registry.manifests import TOGETHER
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, StorageError
from tests.backend.connection.doctor.conftest import CONFIG as MEDIA
from tests.backend.connection.doctor.conftest import publish
from tests.backend.connection.doctor.test_annotators import exported
from tests.backend.labelling.taxonomy_changes.conftest import SCARLET, change
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import CONFIG, write_catalogue


def project(services: Services, name: str = "7") -> ProjectStatus:
    (status,) = collect_status(services, name).projects
    return status


def text(services: Services) -> str:
    return "\n".join(status_lines(collect_status(services)))


def test_what_was_taken_and_what_was_not(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=CONFIG)
    manifest = write_catalogue(tmp_path, 6)
    rows = manifest.read_text().replace("0001.jpg,Warm,Yellow", "0001.jpg,,")
    manifest.write_text(rows + "gone.jpg,Warm,Red,p\n")
    import_manifest(services, manifest, "7", options=ManifestOptions(skip_bad_rows=True))
    status = project(services)
    assert status.images is not None
    assert (status.images.images, status.images.labelled) == (6, 5)
    assert status.images.without_label == {"not_annotated": 1}
    (source,) = status.sources
    assert (source.name, source.label_studio, source.tasks, source.annotations) == ("manifest.csv", False, 6, 5)
    assert (source.entries, source.left_out) == (7, {"file that is not there": 1})
    said = text(services)
    assert "images: 6, of which 5 have an accepted label" in said
    assert "images without a label: 1 × not annotated" in said
    assert "left out of manifest.csv: 1 × file that is not there" in said
    assert "Waits for a person\n    nothing" in said


def test_what_waits_for_a_person(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=CONFIG)
    import_export(services, exported(tmp_path), project="7")
    waiting = project(services).waiting
    assert waiting is not None
    assert (waiting.second_opinion, waiting.disagreement) == (4, 0)
    assert waiting.missing_annotators is not None
    assert waiting.missing_annotators.startswith("One person annotates, and a label needs 2 who agree.")
    manifest = write_catalogue(tmp_path, 4, annotators=("anna", "bela"))
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines[:-1], lines[-1].replace("Cold,Green", "Warm,Red")]))
    import_manifest(services, manifest, "7")
    waiting = project(services).waiting
    assert waiting is not None
    assert (waiting.second_opinion, waiting.disagreement, waiting.missing_annotators) == (4, 1, None)
    assert "second opinion: 4 images" in text(services)
    assert "disagreement: 1 image" in text(services)


def test_the_model_is_no_annotator(services: Services) -> None:
    """An administrator has pressed *Create annotations from predictions*; one person annotates."""
    with StandIn() as label_studio:
        for number in (1, 2):
            label_studio.add_task(number, f"/data/upload/4/{number}.jpg")
            label_studio.annotate(number, number, 5, RED, lead_time=None, parent_prediction=number)
        label_studio.annotate(3, 1, 3, RED)
        services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
        sync(services, "4", lambda step, share: None)
        waiting = project(services, "4").waiting
        assert waiting is not None
        assert waiting.missing_annotators is not None
        assert waiting.missing_annotators.startswith("One person annotates, and a label needs 2 who agree.")
        label_studio.annotate(4, 2, 7, RED)
        sync(services, "4", lambda step, share: None)
        waiting = project(services, "4").waiting
        assert waiting is not None
        assert (waiting.second_opinion, waiting.missing_annotators) == (2, None)


def test_labels_outside_the_taxonomy_wait(world: Services) -> None:
    change(world, SCARLET)
    waiting = project(world).waiting
    assert waiting is not None
    assert [(node.path, node.labels) for node in waiting.outside.gone] == [(("Warm", "Red"), 20)]
    assert waiting.training_held is not None
    said = text(world)
    assert "20 labels on nodes that the taxonomy has no longer; training waits" in said
    assert "Warm / Red: 20" in said


def test_a_refused_config_waits(services: Services) -> None:
    services.projects.update("7", label_config="<View/>")
    waiting = project(services).waiting
    assert waiting is not None
    assert waiting.config_refused is not None
    assert "the labelling config cannot be used" in text(services)


def record_task(services: Services) -> None:
    services.journal.record([TaskSaved("7", "", "1", "/data/upload/1/a.jpg", datetime(2026, 1, 5, tzinfo=UTC))])
    services.journal.fold()


def test_labels_wait_for_a_taxonomy(services: Services) -> None:
    """Before, they were shown as being decided, although nothing decides them."""
    record_task(services)
    services.projects.update("7", label_config="")
    said = text(services)
    assert "whose label waits for a taxonomy: 1" in said
    assert "Waits for a person\n    a taxonomy: Project 7 has no taxonomy yet" in said
    assert "give --config to `taxonomist import`" in said
    waiting = project(services).waiting
    assert waiting is not None
    assert waiting.no_taxonomy is not None
    services.projects.update("7", label_config="<View/>")
    said = text(services)
    assert "whose label waits for a taxonomy: 1" in said
    assert "the labelling config cannot be used: The labelling config has no image." in said
    assert "a taxonomy:" not in said.partition("Waits for a person")[2]


def test_labels_wait_for_the_worker(services: Services) -> None:
    record_task(services)
    services.projects.update("7", label_config=CONFIG)
    assert "whose label waits for the worker, which does not run: 1" in text(services)
    heartbeat.beat(services.home)
    assert "whose label is being decided: 1" in text(services)
    decide_all_dirty(services, "7")
    assert "whose label" not in text(services)


def test_images_without_labels_wait_for_a_taxonomy(services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path, 2)
    manifest.write_text("\n".join(line.partition(",")[0] for line in manifest.read_text().splitlines()))
    import_manifest(services, manifest, "colours")
    assert "a taxonomy: Project colours has no taxonomy yet: nothing with labels was imported." in text(services)


def test_a_candidate_waits_where_a_person_promotes(services: Services) -> None:
    services.projects.update("7", label_config=MEDIA)
    publish(services, "7")
    publish(services, "7")
    services.registry.promote("project-7", "v1")
    assert "not promoted" not in text(services)
    services.projects.update("7", settings=ProjectChoices(promotion="manual"))
    waiting = project(services).waiting
    assert waiting is not None
    assert waiting.candidate == "v2"
    assert "decide: taxonomist models promote v2 --project 7" in text(services)


def test_the_served_model_and_its_figures(trained: Services) -> None:
    model = project(trained).model
    assert model is not None
    assert (model.version, model.name, model.caveats) == ("v1", "taxonomist-v1", ())
    assert model.macro_f1.keys() == {"colour"}
    assert model.test_images
    said = text(trained)
    assert "served: taxonomist-v1, trained" in said
    assert "test images of products that it has not seen" in said
    assert "    suggestions for colour\n      " in said


def test_what_is_suggested_for_several_images_fits_a_terminal(trained: Services) -> None:
    status = collect_status(trained, "7")
    (served,) = status.projects
    assert served.model is not None
    paths = Calibration(1.0, (0.75, 0.75), 0.9, (9_999, 9_999), promise="average")
    lists = replace(paths, thresholds=(inf, inf), shortlists=(0.8, 0.8), labels=9_999, labels_needed=12_000)
    promise = {"taxonomy": paths.describe(), f"taxonomy, {TOGETHER}": lists.describe()}
    model = replace(served.model, promise=promise)
    lines = list(status_lines(replace(status, projects=(replace(served, model=model),))))
    assert f"      {lists.describe()}" in lines
    assert max(map(len, lines)) < 120


def test_a_model_without_figures_says_so(services: Services) -> None:
    services.projects.update("7", label_config=MEDIA)
    publish(services, "7")
    said = text(services)
    assert "    never tested" in said
    assert "    products unknown" in said


def test_jobs_and_the_worker(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    assert "Worker: does not run" in text(services)
    job = services.jobs.enqueue(JobKind.SYNC, "7", "schedule")
    assert "sync: waiting since" in text(services)
    services.jobs.start(job.id)
    services.jobs.finish(job.id, JobState.FAILED, "Label Studio is away")
    status = project(services)
    assert status.last_sync is not None
    assert status.last_sync.outcome == "Label Studio is away"
    assert status.last_error == status.last_sync
    again = services.jobs.enqueue(JobKind.SYNC, "7", "schedule")
    services.jobs.start(again.id)
    services.jobs.finish(again.id, JobState.DONE, "3 tasks")
    assert project(services).last_error is None  # it is over
    assert "no job has failed" in text(services)
    heartbeat.beat(services.home)
    assert "Worker: runs" in text(services)


def test_text_and_json_are_one(world: Services) -> None:
    status = collect_status(world)
    values = asdict(status)
    assert values["projects"][0]["project"] == "7"
    assert values["projects"][0]["images"]["labelled"] == 80
    assert values["worker_runs"] is False
    later = list(status_lines(status, datetime.now(UTC) + timedelta(days=3)))
    assert any("3 days ago" in line for line in later)
    assert max(map(len, later)) < 120


def test_it_counts_without_reading_documents_or_annotations(world: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise AssertionError("read one by one")

    for kind, name in (
        (SqliteCatalog, "documents"),
        (SqliteCatalog, "get"),
        (Journal, "annotations"),
        (Journal, "tasks"),
    ):
        monkeypatch.setattr(kind, name, refuse)
    assert project(world).images is not None


def contents(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def test_nothing_is_changed(world: Services) -> None:
    world.journal.close()
    world.catalog.close()
    before = contents(world.settings.home)
    fresh = Services(Settings(home=world.settings.home))
    text(fresh)
    for store in (fresh.journal, fresh.catalog):
        store.close()
    assert contents(world.settings.home) == before


def test_a_folder_that_is_no_home_stays_as_it_is(services: Services, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no home folder"):
        collect_status(services)
    assert not services.settings.home.exists()
    (services.settings.home / "projects").mkdir(parents=True)  # as an early release left it
    with pytest.raises(ConfigError, match="earlier release"):
        collect_status(services)
    assert [path.name for path in services.settings.home.iterdir()] == ["projects"]


def test_an_unknown_project_names_the_known_ones(world: Services) -> None:
    with pytest.raises(NotFoundError) as error:
        collect_status(world, "8")
    assert "Known projects: 7" in str(error.value.hint)


def test_what_cannot_be_read_costs_that_part_only(world: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> NoReturn:
        raise StorageError("The catalogue is away.")

    monkeypatch.setattr(SqliteCatalog, "count_states", fail)
    status = project(world)
    assert status.images is None
    assert status.problems == ("The catalogue is away.",)
    assert status.sources
    assert "Cannot be read: The catalogue is away." in text(world)


def test_while_a_worker_decides(world: Services) -> None:
    """Readers wait for no writer."""
    stop = threading.Event()

    def work() -> None:
        worker = Worker(Services(world.settings))
        number = 0
        while not stop.is_set():
            number += 1
            world.projects.update("7", label_config=(CONFIG, SCARLET)[number % 2])
            worker.pulse()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        reader = Services(world.settings)
        for _ in range(10):
            found = project(reader)
            assert found.problems == ()
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
    decide_anew(world, "7")
