"""Several threads and processes change a project's record at once, and no change is lost."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.label_studio.requests import SetupRequest
from taxonomist.backend.labelling.import_result import keep_last_import
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.labelling.sources import learn_source
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import accept_loss, undo
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import LastImport, ProjectRecord, ProjectRecords
from taxonomist.backend.web.use_cases import UseCases
from tests.small_world import CONFIG, write_catalogue


def summary(entries: int) -> LastImport:
    return LastImport(at=datetime.now(UTC), entries=entries, annotations=0)


@pytest.fixture
def slow_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading of a record and its change, another one always has time to change it."""
    get = ProjectRecords.get

    def slow(records: ProjectRecords, project: str) -> ProjectRecord:
        record = get(records, project)
        time.sleep(0.02)
        return record

    monkeypatch.setattr(ProjectRecords, "get", slow)


def at_once(*functions: Callable[[], object]) -> None:
    """Call all functions in threads that begin together; raise the first error."""
    barrier, errors = threading.Barrier(len(functions)), list[Exception]()

    def call(function: Callable[[], object]) -> None:
        barrier.wait()
        try:
            function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("slow_reading")
def test_the_imports_of_all_sources_are_kept(services: Services) -> None:
    def keep(number: int) -> Callable[[], object]:
        return lambda: keep_last_import(Services(services.settings), "7", f"{number}.csv", summary(number))

    at_once(*map(keep, range(6)))
    assert {name: kept.entries for name, kept in services.projects.get("7").imports.items()} == {
        f"{number}.csv": number for number in range(6)
    }


@pytest.mark.usefixtures("slow_reading")
def test_decisions_on_different_nodes_are_kept(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    services.projects.update("7", label_config=CONFIG.replace('<Choice value="Red"/>', ""))
    services.projects.update("7", label_config=CONFIG.replace('<Choice value="Red"/><Choice value="Yellow"/>', ""))
    services.projects.update("7", gone={"colour": (("Warm", "Red"), ("Warm", "Yellow"), ("Warm", "Pink"))})
    accept_loss(services, "7", ["Warm / Pink"])
    at_once(
        lambda: accept_loss(Services(services.settings), "7", ["Warm / Red"]),
        lambda: accept_loss(Services(services.settings), "7", ["Warm / Yellow"]),
        lambda: undo(Services(services.settings), "7", "Warm / Pink"),
    )
    decisions = services.projects.get("7").label_decisions
    assert sorted(decision.old for decision in decisions) == [("Warm", "Red"), ("Warm", "Yellow")]


@pytest.mark.usefixtures("slow_reading")
def test_settings_of_different_names_are_kept(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    at_once(
        lambda: change_settings(Services(services.settings), "7", ["annotators=3"]),
        lambda: change_settings(Services(services.settings), "7", ["target=0.8"]),
        lambda: change_settings(Services(services.settings), "7", ["promotion=manual"]),
    )
    settings = services.projects.get("7").settings
    assert (settings.annotators, settings.target, settings.promotion) == (3, 0.8, "manual")


@pytest.mark.usefixtures("slow_reading")
def test_all_addresses_of_label_studio_are_kept(services: Services) -> None:
    services.projects.update("7", label_studio_url="http://inner:8080", created="5")

    def set_up(host: str) -> Callable[[], object]:
        request = SetupRequest(project="7", schema=CONFIG, created="5", hostname=host, access_token=None)
        return lambda: UseCases(Services(services.settings)).set_up(request, authenticated=False, local=True)

    hosts = [f"http://outer-{number}" for number in range(4)]
    at_once(*map(set_up, hosts))
    assert sorted(services.projects.get("7").label_studio_addresses) == hosts


@pytest.mark.usefixtures("slow_reading")
def test_the_first_source_of_a_project_stays(services: Services) -> None:
    seen: list[str | None] = []

    def learn(created: str) -> Callable[[], object]:
        return lambda: seen.append(learn_source(Services(services.settings), "7", created).created)

    at_once(*(learn(str(number)) for number in range(1, 5)))
    assert set(seen) == {services.projects.get("7").created}


@pytest.mark.usefixtures("slow_reading")
def test_the_folders_and_nodes_of_two_manifests_are_kept(services: Services, tmp_path: Path) -> None:
    first, second = (write_catalogue(tmp_path / name, 4) for name in ("first", "second"))
    second.write_text("file,level1,level2\n0000.jpg,Warm,Pink\n", encoding="utf-8")
    at_once(
        *(
            lambda at=manifest: import_manifest(
                Services(services.settings), at, "furniture", options=ManifestOptions(source=at.parent.name)
            )
            for manifest in (first, second)
        )
    )
    folders = services.projects.get("furniture").image_folders
    assert sorted(source for folder in folders for source in folder.sources) == ["first", "second"]
    assert {("Warm", "Pink"), ("Cold", "Blue")} <= set(services.label_config("furniture").trees[0].paths)


def _count(folder: Path, times: int, begin: Barrier) -> None:
    records = ProjectRecords(folder)
    begin.wait()
    for _ in range(times):
        records.change("7", lambda record: {"changed_labels": record.changed_labels + 1})
        records.count_changed_labels("7", changes=1, waiting=1)


def test_processes_count_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(2)
    processes = [context.Process(target=_count, args=(tmp_path, 50, begin)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert ProjectRecords(tmp_path).get("7").changed_labels == 200
