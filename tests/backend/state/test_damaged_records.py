"""A project record that cannot be read: it is shown, stops no other project, and no label is lost."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.api import Home
from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from taxonomist.backend.status import collect_status, status_lines
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
    assert len([line for line in caplog.messages if "7.json" in line]) == 1  # not once a second
    client = client_of(services)
    for address in ("/health", "/ready", "/metrics", "/versions?project=9", "/versions"):
        assert client.get(address).status_code in {200, 404}, address
    assert [project.name for project in Home(services).projects()] == ["9"]
    with pytest.raises(DamagedError, match="Move it aside"):
        services.projects.update("7", label_config=CONFIG)


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
    Worker(services).pulse()
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
        Worker(later).pulse()
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
