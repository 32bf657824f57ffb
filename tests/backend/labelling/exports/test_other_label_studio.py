"""Exports of two Label Studios under one file name: ids count from 1 in both, and neither may replace the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.exports import importing
from taxonomist.backend.labelling.exports.difference import OTHER_ANNOTATION, OTHER_TASK
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services
from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationSaved, TaskSaved
from taxonomist.storage.journal.codec import parse_time
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.labelling.exports.conftest import everything, labels
from tests.backend.labelling.test_label_studio_export import BLUE, GREEN, RED, annotation, write
from tests.small_world import write_catalogue

Tasks = list[dict[str, Any]]
MONDAY, TUESDAY = "2026-01-05T10:00:00Z", "2026-01-06T10:00:00Z"


def instance(
    name: str, path: list[str], day: str | None, *, first: int = 1, count: int = 3, project: int = 1, own: str = ""
) -> Tasks:
    """Return the export of a Label Studio: each task is labelled alike by persons 1 and 2.

    `own` begins the unique ids of its annotations; without it they have none.
    """
    tasks = []
    for id in range(first, first + count):
        annotations = [
            annotation(2 * (id - first) + person, person, path, created_at=day, updated_at=day) for person in (1, 2)
        ]
        for found in annotations if own else []:
            found["unique_id"] = f"{own}-{found['id']}"
        data = {"image": f"/data/upload/1/{name}-{id}.jpg"}
        tasks.append({"id": id, "project": project, "created_at": day, "data": data, "annotations": annotations})
    return tasks


OTHERS: dict[str, Callable[[], Tasks]] = {
    "as seen": lambda: instance("bb", BLUE, TUESDAY),
    "one task": lambda: instance("bb", BLUE, TUESDAY, count=1),
    "more tasks": lambda: instance("bb", BLUE, TUESDAY, count=8),
    "one bucket": lambda: instance("aa", BLUE, TUESDAY),
    "one day": lambda: instance("bb", BLUE, MONDAY),
    "one day and one label, another project": lambda: instance("bb", RED, MONDAY, project=2),
    "no times": lambda: instance("bb", BLUE, None),
    "ids of annotations only": lambda: instance("bb", BLUE, TUESDAY, first=100),
    "without annotations": lambda: [{**task, "annotations": []} for task in instance("bb", BLUE, TUESDAY)],
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_label_studio_under_the_same_name_changes_nothing(known: Services, tmp_path: Path, name: str) -> None:
    import_export(known, write(tmp_path, instance("aa", RED, MONDAY)), project="7")
    before = everything(known)
    theirs = write(tmp_path, OTHERS[name]())
    with pytest.raises(ConfigError, match=r"comes from elsewhere.*Nothing is imported.*--source NAME") as caught:
        import_export(known, theirs, project="7")
    assert "'export.json'" in str(caught.value)
    assert everything(known) == before
    done = import_export(known, theirs, project="7", source="theirs")
    assert done.left_out == 0
    count = len(OTHERS[name]())
    images = 3 if "bucket" in name else 3 + count
    assert len(labels(known)) == images
    assert len(list(known.journal.annotations("7"))) == 6 + done.annotations
    assert import_export(known, theirs, project="7", source="theirs") == done


def test_exports_with_two_names_need_no_source(known: Services, tmp_path: Path) -> None:
    for name, path, day in (("aa", RED, MONDAY), ("bb", BLUE, TUESDAY)):
        file = write(tmp_path, instance(name, path, day)).rename(tmp_path / f"{name}.json")
        done = import_export(known, file, project="7")
        assert (done.images, done.accepted, done.left_out) == (3, 3, 0)
    expected = {"aa": RED, "bb": BLUE}
    assert labels(known) == {f"/data/upload/1/{name}-{id}.jpg": expected[name] for name in expected for id in (1, 2, 3)}


def test_the_first_import_of_the_project_that_the_file_names(known: Services, tmp_path: Path) -> None:
    """The same two files as a user has them: in two folders, both called export.json."""
    for name, path, day in (("aa", RED, MONDAY), ("bb", BLUE, TUESDAY)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, instance(name, path, day, project=7))
    import_export(known, tmp_path / "aa" / "export.json")
    with pytest.raises(ConfigError, match="--source"):
        import_export(known, tmp_path / "bb" / "export.json")
    import_export(known, tmp_path / "bb" / "export.json", source="bb")
    assert sorted(map(str, labels(known).values())) == sorted(map(str, [RED] * 3 + [BLUE] * 3))


@pytest.mark.parametrize("chunk", [1, 2, 500])
def test_two_label_studios_in_one_file(
    known: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(importing, "CHUNK", chunk)
    file = write(tmp_path, instance("aa", RED, MONDAY) + instance("bb", BLUE, TUESDAY))
    done = import_export(known, file, project="7")
    assert labels(known) == {f"/data/upload/1/aa-{id}.jpg": RED for id in (1, 2, 3)}
    assert (done.images, done.annotations, done.left_out_reasons) == (3, 6, {OTHER_TASK: 3})
    assert "--source NAME keeps both" in done.problems[0]
    assert import_export(known, file, project="7") == done


def test_an_id_that_is_used_again_replaces_nothing(known: Services, tmp_path: Path) -> None:
    """Label Studio on SQLite gives the id of a deleted task to the next one."""
    tasks = instance("aa", RED, MONDAY)
    import_export(known, write(tmp_path, tasks), project="7")
    again = instance("bb", BLUE, TUESDAY, first=3, count=1)
    for found in again[0]["annotations"]:
        found["id"] += 4
    done = import_export(known, write(tmp_path, tasks[:2] + again), project="7")
    assert labels(known) == {f"/data/upload/1/aa-{id}.jpg": RED for id in (1, 2, 3)}
    assert (done.annotations, done.left_out_reasons) == (4, {OTHER_TASK: 1})


def test_an_annotation_whose_id_is_used_again_replaces_nothing(known: Services, tmp_path: Path) -> None:
    tasks = instance("aa", RED, MONDAY)
    import_export(known, write(tmp_path, tasks), project="7")
    last = tasks[-1]["annotations"][-1]["id"]
    tasks += instance("cc", GREEN, TUESDAY, first=9, count=1)
    tasks[-1]["annotations"] = [annotation(last, 1, GREEN, created_at=TUESDAY, updated_at=TUESDAY)]
    del tasks[2]["annotations"][-1]
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert labels(known)["/data/upload/1/aa-3.jpg"] == RED
    assert (done.images, done.left_out_reasons) == (4, {OTHER_ANNOTATION: 1})


def test_a_person_who_deletes_an_annotation_and_makes_another_one_is_followed(known: Services, tmp_path: Path) -> None:
    tasks = instance("aa", RED, MONDAY)
    import_export(known, write(tmp_path, tasks), project="7")
    for number, found in enumerate(tasks[0]["annotations"], start=1):
        tasks[0]["annotations"][number - 1] = annotation(
            found["id"], number, BLUE, created_at=TUESDAY, updated_at=TUESDAY
        )
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.annotations, done.left_out) == (6, 0)
    assert labels(known)["/data/upload/1/aa-1.jpg"] == BLUE


def test_annotations_with_other_unique_ids_replace_nothing(known: Services, tmp_path: Path) -> None:
    """Two Label Studios show the same images, and everything was made in the same second."""
    import_export(known, write(tmp_path, instance("aa", RED, MONDAY, own="ours")), project="7")
    before = everything(known)
    done = import_export(known, write(tmp_path, instance("aa", BLUE, MONDAY, own="theirs")), project="7")
    assert everything(known) == before
    assert (done.annotations, done.left_out_reasons) == (0, {OTHER_ANNOTATION: 6})


def test_the_source_of_a_manifest_is_not_that_of_an_export(known: Services, tmp_path: Path) -> None:
    import_manifest(known, write_catalogue(tmp_path / "catalogue", 4), "7")
    before = everything(known)
    with pytest.raises(ConfigError, match="is a manifest"):
        import_export(known, write(tmp_path, instance("aa", RED, MONDAY)), project="7", source="manifest.csv")
    assert everything(known) == before


def record_earlier(services: Services, tasks: Tasks) -> None:
    """Record an import of a release in which sources had no names."""
    for task in tasks:
        uri, id = task["data"]["image"], str(task["id"])
        services.journal.record([TaskSaved("7", EARLIER_IMPORT, id, uri, parse_time(MONDAY), data=task["data"])])
        for found in task["annotations"]:
            time, data = (
                parse_time(found["created_at"]),
                json.loads(json.dumps({**found, "task": task["id"], "project": task["project"]})),
            )
            saved = AnnotationSaved("7", EARLIER_IMPORT, str(found["id"]), id, uri, time, time, data)
            services.journal.record([saved])
    decide_all_dirty(services, "7")


@pytest.mark.parametrize("name", OTHERS)
def test_an_earlier_import_is_not_taken_over_by_another_label_studio(
    known: Services, tmp_path: Path, name: str
) -> None:
    record_earlier(known, instance("aa", RED, MONDAY))
    theirs = OTHERS[name]()
    done = import_export(known, write(tmp_path, theirs), project="7")
    assert done.left_out == 0
    assert len(list(known.journal.tasks("7", source=EARLIER_IMPORT))) == 3
    assert len(list(known.journal.annotations("7", source=EARLIER_IMPORT))) == 6
    assert len(list(known.journal.annotations("7", source="export.json"))) == done.annotations


def test_an_earlier_import_gets_the_name_of_the_export_that_agrees_with_it(known: Services, tmp_path: Path) -> None:
    tasks = instance("aa", RED, MONDAY)
    old = instance("old", GREEN, MONDAY, first=50, count=1)
    for found in old[0]["annotations"]:
        found["id"] += 100
    record_earlier(known, tasks + old)
    before = labels(known)
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.images, done.annotations, done.accepted) == (3, 6, 3)
    assert labels(known) == before
    assert [task.task_id for task in known.journal.tasks("7", source=EARLIER_IMPORT)] == ["50"]
    assert len(list(known.journal.annotations("7", source="export.json"))) == 6
    people = [len(document.labels_with_taxonomy) for document in known.catalog.documents("7")]
    assert people == [2, 2, 2, 2]


def test_a_corrected_export_of_an_earlier_import_is_followed(known: Services, tmp_path: Path) -> None:
    """Also an annotation that was moved to another task since."""
    tasks = instance("aa", RED, MONDAY)
    tasks[2]["annotations"][1]["completed_by"] = 9
    record_earlier(known, tasks)
    tasks[0]["data"]["image"] = "/data/upload/1/right.jpg"
    tasks[1]["annotations"].append(tasks[2]["annotations"].pop())
    del tasks[2]
    import_export(known, write(tmp_path, tasks), project="7")
    found = labels(known)
    assert found["/data/upload/1/right.jpg"] == RED
    assert "/data/upload/1/aa-1.jpg" not in found
    (document,) = [d for d in known.catalog.documents("7") if d.id == image_id("/data/upload/1/aa-2.jpg")]
    assert document.total_annotations == 3


def test_an_earlier_import_of_ids_that_count_within_tasks_gets_its_name(known: Services, tmp_path: Path) -> None:
    """The annotations have ids of their own in the file, and others in the journal once that has given up its own."""
    tasks = instance("aa", RED, MONDAY)
    for task in tasks:
        for number, found in enumerate(task["annotations"], 1):
            found["id"] = number
    record_earlier(known, tasks[-1:])
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.images, done.annotations, done.left_out) == (3, 6, 0)
    assert list(labels(known).values()) == [RED] * 3
