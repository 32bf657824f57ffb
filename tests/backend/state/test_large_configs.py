"""Labelling configs that are too large, or large, in the records of projects."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state import gone_nodes, project_records
from taxonomist.backend.state.project_records import ProjectRecord, ProjectRecords
from taxonomist.taxonomy.errors import ConfigTooLargeError
from taxonomist.taxonomy.label_config import write_label_config
from tests.small_world import CONFIG

TOO_LARGE = write_label_config([(f"node {number}",) for number in range(50_001)])


def config(first: int, count: int) -> str:
    return write_label_config([(f"node {number}",) for number in range(first, first + count)])


def test_a_config_that_is_too_large_changes_nothing(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    before = services.projects.get("7")
    with pytest.raises(ConfigTooLargeError, match="50,001 choices; at most 50,000"):
        services.projects.update("7", label_config=TOO_LARGE, announced="v1")
    assert Services(services.settings).projects.get("7") == before


def test_a_project_whose_stored_config_is_too_large_gets_a_smaller_one(services: Services) -> None:
    services.projects.update("7", label_config=CONFIG)
    path = services.settings.home / "projects" / "7.json"
    path.write_text(ProjectRecord(project="7", label_config=TOO_LARGE).model_dump_json())
    services.projects.update("7", label_config=CONFIG)
    assert services.label_config("7").trees


def test_configs_are_compared_without_the_lock(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one large config keeps the webhooks of all projects waiting."""
    services.projects.update("7", label_config=config(0, 10))
    begun, released = threading.Event(), threading.Event()
    compare = gone_nodes.gone_with

    def slow(record: ProjectRecord, xml: str) -> dict[str, object]:
        begun.set()
        assert released.wait(30)
        return compare(record, xml)

    monkeypatch.setattr(project_records, "gone_with", slow)
    thread = threading.Thread(target=services.projects.update, args=("7",), kwargs={"label_config": config(5, 10)})
    thread.start()
    assert begun.wait(30)
    services.projects.update("8", created="1")
    services.projects.update("7", created="2")
    released.set()
    thread.join()
    record = Services(services.settings).projects.get("7")
    assert record.created == "2"
    assert record.gone == {"taxonomy": tuple((f"node {number}",) for number in range(5))}


def test_a_config_that_another_process_stored_meanwhile_is_compared_too(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.projects.update("7", label_config=config(0, 10))
    compare, calls = gone_nodes.gone_with, []

    def overtaken(record: ProjectRecord, xml: str) -> dict[str, object]:
        calls.append(record)
        if len(calls) == 1:
            monkeypatch.setattr(project_records, "gone_with", compare)
            services.projects.update("7", label_config=config(2, 10))
            monkeypatch.setattr(project_records, "gone_with", overtaken)
        return compare(record, xml)

    monkeypatch.setattr(project_records, "gone_with", overtaken)
    services.projects.update("7", label_config=config(5, 10))
    gone = services.projects.get("7").gone["taxonomy"]
    assert gone == tuple((f"node {number}",) for number in range(5))


def test_nodes_that_are_gone_are_remembered_up_to_a_bound(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone_nodes, "MOST_GONE", 15)
    for first in (0, 100, 200, 300):
        services.projects.update("7", label_config=config(first, 10))
    gone = services.projects.get("7").gone["taxonomy"]
    assert len(gone) == 15
    assert {(f"node {number}",) for number in range(200, 210)} <= set(gone)


def test_the_records_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_records, "_CACHED_BYTES", 30_000)
    records = ProjectRecords(tmp_path)
    for number in range(20):
        records.update(str(number), label_config=config(0, 100))
    assert len(list(records)) == 20
    assert sum(stamp[1] for stamp, _ in records._cached.values()) <= 30_000
