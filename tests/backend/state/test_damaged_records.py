"""A project record that cannot be read: it is shown, stops no other project, and no label is lost."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from weakref import ref

import pytest
from pydantic import SecretStr

from taxonomist.api import Home
from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.forgetting.forget import forget_project
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import LOST_CHOICES, LOST_TOKEN, ProjectRecord
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.backend.worker.repaired_records import RecordKeeper
from taxonomist.backend.worker.worker import Worker
from taxonomist.taxonomy.errors import BadRequestError, DamagedError
from tests.backend.cli.conftest import Run, run_json
from tests.backend.forgetting.test_forget_project import manifest_of
from tests.backend.web.test_app import client_of
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import CONFIG, image_bytes

DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(200)),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80"),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "odd field": lambda path: path.write_text('{"project": "7", "labels_version": "many"}'),
    "another project": lambda path: path.write_text('{"project": "8"}'),
}


def path_of(services: Services, project: str = "7") -> Path:
    return services.home / "projects" / f"{project}.json"


def restarted(services: Services) -> Services:
    return Services(services.settings)


def move_aside(error: str) -> None:
    """Do what the advice says."""
    found = re.search(r'mv "(.+)" "(.+)"\. Then run `taxonomist connect`, or import the same files again', error)
    assert found, error
    Path(found[1]).rename(found[2])


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_is_shown_with_what_to_do(world: Services, run: Run, damage: str) -> None:
    DAMAGES[damage](path_of(world))
    services = restarted(world)
    services.projects.update("9", label_config=CONFIG)
    assert [record.project for record in services.projects] == ["9"]
    [first, second] = collect_status(services).projects
    assert (first.project, second.project, second.damaged) == ("7", "9", None)
    assert first.damaged is not None
    assert 'Move it aside: mv "' in first.damaged
    assert first.images is not None
    assert (first.images.images, first.images.labelled) == (80, 80)
    assert first.sources[0].annotations == 80
    assert f"  Damaged: {first.damaged}" in list(status_lines(collect_status(services, "7")))
    printed = run_json(run, "status")["projects"]
    assert [row["project"] for row in printed] == ["7", "9"]
    assert printed[0]["damaged"] == first.damaged
    for asked in (None, "7"):
        [check] = [check for check in run_checks(services, asked) if check.name == "record of project 7"]
        assert (check.status, check.fix.startswith("Move it aside")) == ("fail", True)
    assert not [check for check in run_checks(services, "9") if check.name == "record of project 7"]


def test_it_stops_no_other_project(world: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_of(world)
    DAMAGES["cut"](path_of(world))
    services = restarted(world)
    services.projects.update("9", label_config=CONFIG)
    import_manifest(services, manifest, "9")
    services.projects.update("9", decided_with="an older rule")
    worker = Worker(services)
    with caplog.at_level(logging.ERROR):
        worker.pulse()
        worker.pulse()
    assert services.projects.get("9").decided_with != "an older rule"
    assert len([line for line in caplog.messages if "7.json is not JSON" in line]) == 1  # not once a second
    client = client_of(services)
    for address in ("/health", "/ready", "/metrics", "/versions?project=9", "/versions"):
        assert client.get(address).status_code in {200, 404}, address
    assert [project.name for project in Home(services).projects()] == ["7", "9"]
    lost = collect_status(services, "7").projects[0].lost
    assert lost is not None
    assert "the labelling config. Import the same files again." in lost
    assert services.projects.damaged() == {}


@pytest.mark.parametrize("name", ["a%2Fb", "%", "7 copy"])
def test_a_stray_file_stops_nothing(world: Services, name: str) -> None:
    path_of(world, name).write_bytes(path_of(world).read_bytes())
    services = restarted(world)
    assert [record.project for record in services.projects] == ["7"]
    assert len(services.projects.damaged()) == 1
    Worker(services).pulse()


def test_no_label_of_an_import_is_lost(world: Services) -> None:
    manifest = manifest_of(world)
    before = {document.id: document.projects["7"].accepted for document in world.catalog.documents("7")}
    annotations = [vars(record) for record in world.journal.annotations("7")]
    DAMAGES["cut"](path_of(world))
    services = restarted(world)
    with pytest.raises(DamagedError) as raised:
        services.projects.get("7")
    move_aside(str(raised.value))
    Worker(services).pulse()
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, manifest, "7")
    Worker(services).pulse()
    assert [vars(record) for record in services.journal.annotations("7")] == annotations
    assert {document.id: document.projects["7"].accepted for document in services.catalog.documents("7")} == before
    assert services.projects.damaged() == {}


def test_no_label_of_label_studio_is_lost(services: Services) -> None:
    with StandIn() as label_studio:
        for number in (1, 2):
            uri = f"/data/upload/4/{number}.png"
            label_studio.add_task(number, uri)
            label_studio.annotate(10 * number, number, 3, RED)
            label_studio.annotate(10 * number + 1, number, 5, RED)
            label_studio.files[uri] = image_bytes(("Warm", "Red"), number)
        services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
        sync(services, "4", lambda step, share: None)
        before = [vars(record) for record in services.journal.annotations("4")]
        labels = {document.id: document.projects["4"].accepted for document in services.catalog.documents("4")}
        assert (len(before), len(labels)) == (4, 2)
        path_of(services, "4").write_text(json.dumps({"project": 4})[:-3])
        later = restarted(services)
        with pytest.raises(DamagedError) as raised:
            later.projects.get("4")
        move_aside(str(raised.value))
        Worker(later).pulse()
        assert [vars(record) for record in later.journal.annotations("4")] == before
        # What `connect` stores.
        later.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
        sync(later, "4", lambda step, share: None)
        Worker(later).pulse()
        assert [vars(record) for record in later.journal.annotations("4")] == before
        found = {document.id: document.projects["4"].accepted for document in later.catalog.documents("4")}
        assert found == labels


@pytest.mark.parametrize("odd", [{"label_config": 5}, {"api_key": 5}, {"changed_labels": "many"}, {"created": []}])
def test_a_record_that_could_not_be_read_back_is_not_written(services: Services, odd: dict[str, object]) -> None:
    """The edge refuses such values; what it lets through by mistake must not cost the token and the config."""
    services.projects.update("4", label_config=CONFIG, api_key=SecretStr("t"))
    before = (services.home / "projects" / "4.json").read_bytes()
    with pytest.raises(BadRequestError, match=r"4\.json"):
        services.projects.update("4", **odd)
    assert (services.home / "projects" / "4.json").read_bytes() == before
    assert services.projects.get("4").label_config == CONFIG


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in it")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ALL_DAMAGES = DAMAGES | {
    "a folder": make_folder,
    "a pipe": make_pipe,
    "odd format": lambda path: path.write_text('{"format": "one", "project": "7"}'),
    "format 0": lambda path: path.write_text('{"format": 0, "project": "7"}'),
    "deep": lambda path: path.write_text("[" * 100_000),
}


def kept_fields(record: ProjectRecord) -> dict[str, object]:
    """Return the fields that a record which is made anew has as before."""
    return {name: value for name, value in record if name not in {"api_key", "lost", "labels_version"}}


def labels_of(services: Services) -> dict[str, object]:
    return {document.id: document.projects["7"].accepted for document in services.catalog.documents("7")}


@pytest.mark.parametrize("damage", ALL_DAMAGES)
def test_the_worker_makes_it_anew(world: Services, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    world.projects.update("7", api_key=SecretStr("secret-token"), settings=ProjectChoices(annotators=1))
    world.projects.update("9", label_config=CONFIG)
    Worker(world).pulse()
    before, labels, other = world.projects.get("7"), labels_of(world), world.projects.get("9")
    ALL_DAMAGES[damage](path_of(world))
    services = restarted(world)
    with caplog.at_level(logging.ERROR):
        Worker(services).pulse()
    record = services.projects.get("7")
    assert kept_fields(record) == kept_fields(before)
    assert record.labels_version >= before.labels_version
    assert (labels_of(services), services.projects.get("9")) == (labels, other)
    (aside,) = path_of(world).parent.glob("7.json.damaged-*")
    assert f"its record was damaged and is {aside} now; it is made anew" in caplog.text
    assert b"secret-token" not in (services.home / "journal.sqlite-wal").read_bytes()

    (project, _) = collect_status(services).projects
    assert project.damaged is None
    assert project.lost is not None
    assert (
        "without the token of Label Studio. Run `taxonomist connect --url … --api-key … --project 7`." in project.lost
    )
    assert f"  Lost: {project.lost}" in list(status_lines(collect_status(services, "7")))
    (check,) = (check for check in run_checks(services) if check.name == "record of project 7")
    assert (check.status, "taxonomist connect" in check.fix) == ("warn", True)
    assert not [check for check in run_checks(services, "9") if check.name.startswith("record of")]
    services.projects.update("7", lost=())  # what `connect` does
    assert collect_status(services, "7").projects[0].lost is None


def test_without_a_copy_it_is_made_of_journal_and_registry(trained: Services) -> None:
    labels, champion = labels_of(trained), trained.registry.champion("project-7")
    before = trained.label_config("7")
    with trained.journal._database.write() as connection:
        connection.execute("DELETE FROM project_copies")
    DAMAGES["cut"](path_of(trained))
    services = restarted(trained)
    worker = Worker(services)
    worker._begin()
    for _ in range(2):
        worker.pulse()
    assert [tree.paths for tree in services.label_config("7").trees] == [tree.paths for tree in before.trees]
    assert (labels_of(services), services.registry.champion("project-7")) == (labels, champion)
    assert services.projects.get("7").changed_labels == 0
    assert services.projects.get("7").lost == (LOST_CHOICES,)
    change_settings(services, "7", ["annotators=1"])
    assert services.projects.get("7").lost == ()


def test_a_record_of_a_newer_release_stays(world: Services) -> None:
    Worker(world).pulse()
    path_of(world).write_text('{"format": 2, "project": "7", "new": true}')
    services = restarted(world)
    Worker(services).pulse()
    assert json.loads(path_of(world).read_text())["format"] == 2
    assert "Install the release" in str(services.projects.damaged()["7"])


def test_a_copy_is_forgotten_with_its_project(world: Services) -> None:
    Worker(world).pulse()
    assert world.journal.kept.record("7")
    world.journal.withdrawal.forget_project("7")
    assert world.journal.kept.record("7") is None


def test_what_keeps_the_copies_holds_no_record_and_writes_what_changed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may have a labelling config of megabytes."""
    services.projects.update("7", label_config=CONFIG)
    written: list[str] = []
    keep = services.journal.kept.keep_record

    def count(project: str, record: str) -> None:
        written.append(project)
        keep(project, record)

    monkeypatch.setattr(services.journal.kept, "keep_record", count)
    keeper = RecordKeeper(services)
    keeper.keep(services.projects.get("7"))
    record = ref(services.projects.get("7"))
    services.projects._cached.clear()
    gc.collect()
    assert record() is None
    keeper.keep(services.projects.get("7"))
    assert written == ["7"]
    services.projects.update("7", has_unanswered=True)
    keeper.keep(services.projects.get("7"))
    assert written == ["7", "7"]


def take_record(services: Services) -> None:
    path_of(services).unlink()


def take_folder(services: Services) -> None:
    shutil.rmtree(services.home / "projects")


@pytest.mark.parametrize("take", [take_record, take_folder])
def test_a_record_that_is_gone_comes_back(
    world: Services, caplog: pytest.LogCaptureFixture, take: Callable[[Services], None]
) -> None:
    world.projects.update("7", api_key=SecretStr("secret-token"), settings=ProjectChoices(annotators=1))
    Worker(world).pulse()
    before, labels = world.projects.get("7"), labels_of(world)
    take(world)
    services = restarted(world)
    with caplog.at_level(logging.ERROR):
        Worker(services).pulse()
    record = services.projects.get("7")
    assert kept_fields(record) == kept_fields(before)
    assert record.lost == (LOST_TOKEN,)
    assert labels_of(services) == labels
    assert "project 7: its record was gone; it is made anew, give again: the token of Label Studio" in caplog.messages
    assert take is take_record or stat.S_IMODE(path_of(services).parent.stat().st_mode) == 0o700


def test_a_record_that_is_gone_comes_back_before_a_request_makes_an_empty_one(world: Services) -> None:
    world.projects.update("7", settings=ProjectChoices(annotators=1))
    Worker(world).pulse()
    take_folder(world)
    client = client_of(restarted(world))
    assert client.post("/setup", json={"project": "7", "schema": CONFIG}).status_code == 200
    assert restarted(world).projects.get("7").settings == ProjectChoices(annotators=1)


def test_a_record_does_not_come_back_when_forgetting_its_project_is_killed(
    world: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    Worker(world).pulse()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(world.registry), "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        forget_project(world, "7", lambda step, share: None)
    services = restarted(world)
    Worker(services).pulse()
    assert not services.projects.exists("7")
