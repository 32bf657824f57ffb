"""Exports written by hand number the annotations of each task from 1: there an id counts within its task."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.exports import importing
from taxonomist.backend.labelling.exports.repeated_annotations import OLDER_ANNOTATION
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from tests.backend.labelling.exports.conftest import everything, labels
from tests.backend.labelling.test_label_studio_export import BLUE, GREEN, RED, annotation, write

Tasks = list[dict[str, Any]]
MONDAY, TUESDAY = "2026-01-05T10:00:00.100001Z", "2026-01-06T10:00:00.200002Z"
PATHS = [RED, BLUE, GREEN, RED, BLUE, GREEN]
URIS = [f"/data/upload/1/{number}.jpg" for number in range(len(PATHS))]
EXPECTED: dict[str, Any] = dict(zip(URIS, PATHS, strict=True))


def numbered(first: int = 1, paths: list[list[str]] = PATHS, **fields: Any) -> Tasks:
    """Return tasks, each labelled alike by persons 3 and 4, whose annotations are numbered anew in each task."""
    missing = {"created_at": None, "updated_at": None}
    return [
        {
            "id": number + 1,
            "data": {"image": uri},
            "annotations": [annotation(first + n, 3 + n, path, **{**missing, **fields}) for n in (0, 1)],
        }
        for number, (uri, path) in enumerate(zip(URIS, paths, strict=True))
    ]


def renamed(change: Callable[[Any], Any], *, of_tasks: bool = False) -> Tasks:
    tasks = numbered()
    for part in tasks if of_tasks else [found for task in tasks for found in task["annotations"]]:
        part["id"] = change(part["id"])
    return tasks


def old_form() -> Tasks:
    return [{"id": task["id"], "data": task["data"], "completions": task["annotations"]} for task in numbered()]


def of_target_storage() -> Tasks:
    return [
        {**found, "task": {"id": task["id"], "data": task["data"]}}
        for task in numbered()
        for found in task["annotations"]
    ]


FORMS: dict[str, Callable[[], Tasks]] = {
    "without times": numbered,
    "from 0": lambda: numbered(first=0),
    "one time for all": lambda: numbered(created_at=MONDAY, updated_at=MONDAY),
    "whole seconds": lambda: numbered(created_at="2026-01-05T10:00:00Z", updated_at="2026-01-05T10:00:00Z"),
    "negative": lambda: renamed(lambda id: -id),
    "texts": lambda: renamed(str),
    "names": lambda: renamed(lambda id: f"annotation {id}"),
    "floats": lambda: renamed(float),
    "fractions": lambda: renamed(lambda id: id + 0.5),
    "tasks without ids": lambda: renamed(lambda _: None, of_tasks=True),
    "tasks with empty ids": lambda: renamed(lambda _: " ", of_tasks=True),
    "tasks with floats": lambda: renamed(lambda id: id + 0.5, of_tasks=True),
    "completions": old_form,
    "target storage": of_target_storage,
}


@pytest.mark.parametrize("chunk", [1, 500])
@pytest.mark.parametrize("form", FORMS)
def test_each_task_keeps_its_labels_and_twice_is_once(
    known: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, chunk: int
) -> None:
    monkeypatch.setattr(importing, "CHUNK", chunk)
    file = write(tmp_path, FORMS[form]())
    done = import_export(known, file, project="7")
    assert labels(known) == EXPECTED
    assert (done.images, done.annotations, done.accepted, done.left_out) == (6, 12, 6, 0)
    before, position = everything(known), known.journal.position()
    assert import_export(known, file, project="7") == done
    assert (everything(known), known.journal.position()) == (before, position)


def test_files_of_one_folder(known: Services, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for task in numbered():
        (folder / f"{task['id']}.json").write_text(json.dumps(task))
    done = import_export(known, folder, project="7")
    assert (labels(known), done.annotations, done.left_out) == (EXPECTED, 12, 0)


def test_one_label_for_all_is_kept_for_all(known: Services, tmp_path: Path) -> None:
    done = import_export(known, write(tmp_path, numbered(paths=[RED] * 6)), project="7")
    assert (labels(known), done.annotations, done.left_out) == (dict.fromkeys(URIS, RED), 12, 0)


def test_a_corrected_file_is_followed(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, numbered()), project="7")
    corrected = numbered()
    corrected[0] = numbered(paths=[GREEN, *PATHS[1:]])[0]
    for found in corrected[1]["annotations"]:
        found["result"] = []
    corrected[2]["data"]["image"] = "/data/upload/1/right.jpg"
    corrected[3]["annotations"].append(annotation(3, 5, RED))
    done = import_export(known, write(tmp_path, corrected), project="7")
    expected = {**EXPECTED, URIS[0]: GREEN, URIS[1]: None, "/data/upload/1/right.jpg": GREEN}
    del expected[URIS[2]]
    assert labels(known) == expected
    assert (done.images, done.annotations, done.left_out) == (6, 13, 0)
    assert len(list(known.journal.annotations("7"))) == 13


PARTS = [
    [slice(0, 1), slice(0, 6)],
    [slice(3, 4), slice(0, 6), slice(0, 6)],
    [slice(0, 4), slice(5, 6), slice(4, 5)],
    [slice(0, 2), slice(2, 4), slice(4, 6), slice(0, 6)],
]


@pytest.mark.parametrize("parts", PARTS)
def test_parts_of_a_file_one_after_the_other(known: Services, tmp_path: Path, parts: list[slice]) -> None:
    """Also a part with one task, which does not show by itself how it counts."""
    for part in parts:
        done = import_export(known, write(tmp_path, numbered()[part]), project="7")
        assert done.left_out == 0
    assert labels(known) == EXPECTED
    assert len(list(known.journal.annotations("7"))) == 12


def test_nameless_annotations_of_two_tasks_are_of_two_people(known: Services, tmp_path: Path) -> None:
    tasks = numbered()[:2]
    for task in tasks:
        task["data"]["image"] = URIS[0]
        task["annotations"] = [annotation(1, 3, RED, completed_by=None, lead_time=task["id"])]
    tasks[1]["annotations"][0]["result"][0]["value"] = {"taxonomy": [BLUE]}
    import_export(known, write(tmp_path, tasks), project="7")
    (document,) = known.catalog.documents("7")
    assert document.total_annotations == 2


# --- ids that count within the file, as those of Label Studio


def of_label_studio() -> Tasks:
    tasks = numbered(created_at=MONDAY, updated_at=MONDAY)
    for task in tasks:
        for found in task["annotations"]:
            found["id"] += 10 * task["id"]
            found["unique_id"] = f"u{found['id']}"
    return tasks


def ids(services: Services) -> list[str]:
    return sorted(record.annotation_id for record in services.journal.annotations("7"))


def test_an_annotation_that_was_moved_between_two_exports_of_one_file(known: Services, tmp_path: Path) -> None:
    """Two exports were put together; between them *Remove duplicated tasks* moved annotations."""
    old = of_label_studio()
    old[1]["data"] = old[0]["data"]
    new = copy.deepcopy(old[:1])
    new[0]["annotations"] += copy.deepcopy(old[1]["annotations"])
    new[0]["annotations"][2] |= {"updated_at": TUESDAY, "ground_truth": True}
    done = import_export(known, write(tmp_path, old + new), project="7")
    assert ids(known) == sorted(str(10 * task + n) for task in range(1, 7) for n in (1, 2))
    assert (done.images, done.annotations, done.left_out_reasons) == (5, 12, {OLDER_ANNOTATION: 1})
    assert labels(known)[URIS[0]] == BLUE


@pytest.mark.parametrize("fields", [{}, {"unique_id": None}, {"unique_id": None, "created_at": None}])
def test_an_export_that_has_each_task_twice(known: Services, tmp_path: Path, fields: dict[str, Any]) -> None:
    """Once more with the same ids, and once more with other ids of the tasks."""
    tasks = of_label_studio()
    for task in tasks:
        for found in task["annotations"]:
            found |= fields
    others = [{**task, "id": 100 + task["id"]} for task in tasks]
    file = write(tmp_path, [*tasks, *tasks, *others])
    done = import_export(known, file, project="7")
    assert labels(known) == EXPECTED
    assert ids(known) == sorted(str(10 * task + n) for task in range(1, 7) for n in (1, 2))
    assert (done.images, done.annotations, done.left_out) == (6, 12, 0)
    assert import_export(known, file, project="7") == done
    assert labels(known) == EXPECTED


def test_exports_of_two_label_studios_with_different_tasks_in_one_file(known: Services, tmp_path: Path) -> None:
    tasks = of_label_studio()
    for task in tasks[3:]:
        for found in task["annotations"]:
            found["id"] -= 30
            found["unique_id"] = f"v{found['id']}"
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (labels(known), done.annotations, done.left_out) == (EXPECTED, 12, 0)


@pytest.mark.parametrize("id", [None, "", " ", 5.0, -5, "a", 0])
def test_odd_ids_of_annotations_and_tasks(known: Services, tmp_path: Path, id: object) -> None:
    tasks = numbered()[:2]
    for task in tasks[:1]:
        task["id"] = id
        task["annotations"][0]["id"] = id
    file = write(tmp_path, tasks)
    done = import_export(known, file, project="7")
    assert (labels(known), done.annotations, done.left_out) == ({URIS[0]: RED, URIS[1]: BLUE}, 4, 0)
    assert import_export(known, file, project="7") == done
