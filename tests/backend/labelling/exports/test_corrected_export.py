"""An export that is imported again: the source follows what it says, also where no time has changed."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.exports.difference import OLDER_TASK
from taxonomist.backend.labelling.exports.importing import DELETED, ELSEWHERE
from taxonomist.backend.labelling.exports.repeated_annotations import IN_TWO_FORMS, OLDER_ANNOTATION
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.storage.journal import AnnotationDeleted, AnnotationSaved, TaskDeleted
from taxonomist.storage.journal.codec import parse_time
from tests.backend.labelling.exports.conftest import everything, labels
from tests.backend.labelling.test_label_studio_export import BLUE, GREEN, RED, annotation, write
from tests.small_world import CONFIG

Tasks = list[dict[str, Any]]
EARLY, DAY, LATE = "2026-01-05T10:00:00.100001Z", "2026-01-06T10:00:00.200002Z", "2026-01-07T10:00:00.300003Z"
SOURCE = "7.1767607200"
URIS = [f"/data/upload/1/{id}.jpg" for id in range(5)]
RIGHT = "/data/upload/1/right.jpg"


def dated() -> Tasks:
    """Return an export as Label Studio makes it: tasks 1 to 4, each labelled red by persons 1 and 2."""
    tasks = []
    for id in range(1, 5):
        times = {"created_at": EARLY, "updated_at": DAY}
        annotations = [
            annotation(10 * id + person, person, RED, unique_id=f"u{10 * id + person}", **times) for person in (1, 2)
        ]
        tasks.append({"id": id, "data": {"image": URIS[id]}, **times, "annotations": annotations})
    return tasks


def without_task_times() -> Tasks:
    names = {"created_at", "updated_at"}
    return [{key: value for key, value in task.items() if key not in names} for task in dated()]


def without_times() -> Tasks:
    names = {"created_at", "updated_at", "unique_id"}
    tasks = without_task_times()
    for task in tasks:
        task["annotations"] = [{key: found[key] for key in found.keys() - names} for found in task["annotations"]]
    return tasks


def without_ids_of_annotations() -> Tasks:
    tasks = without_times()
    for task in tasks:
        task["annotations"] = [{key: found[key] for key in found.keys() - {"id"}} for found in task["annotations"]]
    return tasks


def whole_seconds() -> Tasks:
    tasks = without_times()
    for task in tasks:
        for part in (task, *task["annotations"]):
            part |= {"created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-01-05T10:00:00Z"}
    return tasks


FORMS = [dated, without_task_times, without_times, without_ids_of_annotations, whole_seconds]


def say(annotation: dict[str, Any], path: list[str]) -> None:
    annotation["result"] = [{**annotation["result"][0], "value": {"taxonomy": [path]}}]


def correct_an_address(tasks: Tasks) -> None:
    tasks[0]["data"] = {"image": RIGHT}


def correct_all_addresses(tasks: Tasks) -> None:
    for task in tasks:
        task["data"] = {"image": task["data"]["image"].replace("/1/", "/2/")}


def correct_a_label(tasks: Tasks) -> None:
    for found in tasks[0]["annotations"]:
        say(found, BLUE)


def move_annotations(tasks: Tasks) -> None:
    """*Remove duplicated tasks*."""
    tasks[0]["annotations"] += tasks[1]["annotations"]
    del tasks[1]


def empty_a_label(tasks: Tasks) -> None:
    for found in tasks[0]["annotations"]:
        found["result"] = []


def star(tasks: Tasks) -> None:
    say(tasks[0]["annotations"][0], BLUE)
    tasks[0]["annotations"][0]["ground_truth"] = True


RED_ALL: dict[str, Any] = dict.fromkeys(URIS[1:], RED)
REST: dict[str, Any] = dict.fromkeys(URIS[2:], RED)
CORRECTIONS: list[tuple[Callable[[Tasks], None], dict[str, Any]]] = [
    (correct_an_address, {RIGHT: RED} | REST),
    (correct_all_addresses, dict.fromkeys([uri.replace("/1/", "/2/") for uri in URIS[1:]], RED)),
    (correct_a_label, {URIS[1]: BLUE} | REST),
    (empty_a_label, {URIS[1]: None} | REST),
    (star, {URIS[1]: BLUE} | REST),
]


@pytest.mark.parametrize("later_s", [5, 0, -5], ids=["later", "at-once", "earlier"])
@pytest.mark.parametrize(("correct", "expected"), CORRECTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_correction_without_a_new_time_is_followed(
    known: Services,
    tmp_path: Path,
    form: Callable[[], Tasks],
    correct: Callable[[Tasks], None],
    expected: dict[str, Any],
    later_s: float,
) -> None:
    first, corrected = form(), form()
    file = write(tmp_path, first)
    imported_at = file.stat().st_mtime
    import_export(known, file, project="7")
    assert labels(known) == RED_ALL
    correct(corrected)
    write(tmp_path, corrected)
    os.utime(file, (imported_at, imported_at + later_s))
    done = import_export(known, file, project="7")
    assert labels(known) == expected
    assert (done.images, done.annotations, done.left_out) == (4, 8, 0)
    before, events = everything(known), known.journal.position()
    os.utime(file, (imported_at, imported_at + 60))
    assert import_export(known, file, project="7") == done
    assert (everything(known), known.journal.position()) == (before, events)


@pytest.mark.parametrize("form", [dated, without_task_times, whole_seconds])
def test_annotations_that_were_moved_follow(known: Services, tmp_path: Path, form: Callable[[], Tasks]) -> None:
    tasks = form()
    say(tasks[1]["annotations"][0], GREEN)
    tasks[1]["annotations"][0]["completed_by"] = 5
    import_export(known, write(tmp_path, tasks), project="7")
    corrected = copy.deepcopy(tasks)
    move_annotations(corrected)
    done = import_export(known, write(tmp_path, corrected), project="7")
    assert (done.images, done.annotations, done.left_out) == (3, 8, 0)
    (first,) = [found for found in known.catalog.documents("7") if found.projects["7"].uri == URIS[1]]
    assert sorted(str(entry.annotator_id) for entry in first.labels_with_taxonomy) == ["1", "2", "5"]


@pytest.mark.parametrize("names", ["first.json second.json", "second.json first.json"])
def test_a_correction_under_another_name_is_followed(known: Services, tmp_path: Path, names: str) -> None:
    """Label Studio puts the date into the name of an export. The times of the annotations stay as they were."""
    first, second = names.split()
    corrected = dated()
    correct_an_address(corrected)
    move_annotations(corrected)
    corrected[0]["updated_at"] = LATE
    for name, tasks in ((first, dated()), (second, corrected)):
        write(tmp_path, tasks).rename(tmp_path / name)
        done = import_export(known, tmp_path / name, project="7")
        assert (done.annotations, done.left_out) == (8, 0)
    expected = {URIS[1]: None, URIS[2]: None, RIGHT: RED} | dict.fromkeys(URIS[3:], RED)
    assert labels(known) == expected
    done = import_export(known, tmp_path / first, project="7")  # the older one once more
    assert labels(known) == expected
    assert done.annotations == 8
    known.journal.compact(keep_days=-1)
    import_export(known, tmp_path / first, project="7")
    assert labels(known) == expected


def test_other_fields_of_a_task_follow(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, dated()), project="7")
    corrected = dated()
    corrected[0]["data"]["sku"] = "A-1"
    import_export(known, write(tmp_path, corrected), project="7")
    assert [task.data.get("sku") for task in known.journal.tasks("7")] == ["A-1", None, None, None]


def test_the_second_image_of_a_task_follows(known: Services, tmp_path: Path) -> None:
    xml = CONFIG.replace(
        "</View>",
        '<Image name="back" value="$back"/><Taxonomy name="behind" toName="back"><Choice value="Warm">'
        '<Choice value="Red"/></Choice></Taxonomy></View>',
    )
    known.projects.update("7", label_config=xml)
    tasks = dated()[:1]
    tasks[0]["data"]["back"] = "/data/upload/1/back.jpg"
    for found in tasks[0]["annotations"]:
        found["result"].append({**found["result"][0], "from_name": "behind", "to_name": "back"})
    import_export(known, write(tmp_path, tasks), project="7")
    tasks[0]["data"]["back"] = RIGHT
    import_export(known, write(tmp_path, tasks), project="7")
    found = {document.projects["7"].uri: document.projects["7"].accepted for document in known.catalog.documents("7")}
    assert found == {URIS[1]: {"colour": [RED]}, RIGHT: {"behind": [RED]}}


def test_what_the_corrected_export_does_not_name_stays(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, dated()), project="7")
    some = dated()[:1]
    del some[0]["annotations"][1]
    import_export(known, write(tmp_path, some), project="7")
    assert labels(known) == RED_ALL


def test_an_older_export_changes_nothing_and_says_so(known: Services, tmp_path: Path) -> None:
    old, new = dated(), dated()
    correct_an_address(new)
    new[0]["updated_at"] = LATE
    correct_a_label(new)
    for found in new[0]["annotations"]:
        found["updated_at"] = LATE
    import_export(known, write(tmp_path, new), project="7")
    assert labels(known) == {RIGHT: BLUE} | REST
    before = everything(known)
    done = import_export(known, write(tmp_path, old), project="7")
    assert everything(known) == before
    assert (done.images, done.annotations) == (4, 6)
    assert done.left_out_reasons == {OLDER_TASK: 1, OLDER_ANNOTATION: 2}
    assert "task 1: annotation 11: its kept form is of 2026-01-07" in done.problems[1]


def test_a_newer_label_goes_with_its_task_to_the_right_address(known: Services, tmp_path: Path) -> None:
    """The export has the right address, but an older form of the annotations than another one that came before."""
    newer = without_task_times()
    for found in newer[0]["annotations"]:
        found["updated_at"] = LATE
        say(found, BLUE)
    import_export(known, write(tmp_path, newer), project="7")
    corrected = without_task_times()
    correct_an_address(corrected)
    done = import_export(known, write(tmp_path, corrected), project="7")
    assert labels(known) == {RIGHT: BLUE} | REST
    assert (done.annotations, done.left_out_reasons) == (6, {OLDER_ANNOTATION: 2})
    assert [record.updated_at for record in known.journal.annotations("7") if record.uri == RIGHT] == [
        parse_time(LATE)
    ] * 2


def test_a_time_in_the_future_is_not_newer(known: Services, tmp_path: Path) -> None:
    """Label Studio's clock was ahead; the correction states the right time."""
    ahead = dated()
    for found in ahead[0]["annotations"]:
        found["updated_at"] = "2099-01-01T00:00:00Z"
        say(found, BLUE)
    import_export(known, write(tmp_path, ahead), project="7")
    done = import_export(known, write(tmp_path, dated()), project="7")
    assert (labels(known), done.left_out) == (RED_ALL, 0)


def test_an_annotation_in_two_forms_in_one_file(known: Services, tmp_path: Path) -> None:
    tasks = dated()[:1]
    other = copy.deepcopy(tasks[0]["annotations"][0])
    say(other, BLUE)
    tasks[0]["annotations"].append(other)
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (labels(known), done.annotations, done.left_out_reasons) == ({URIS[1]: RED}, 2, {IN_TWO_FORMS: 1})
    other["updated_at"] = LATE
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (labels(known), done.annotations, done.left_out_reasons) == ({URIS[1]: None}, 2, {OLDER_ANNOTATION: 1})


def two_labels(tasks: Tasks) -> None:
    """The labels contradict each other, without a later time."""
    tasks.append(copy.deepcopy(tasks[0]))
    for found in tasks[-1]["annotations"]:
        say(found, BLUE)


def two_tasks(tasks: Tasks) -> None:
    """Two annotations stand under a second task with another image."""
    tasks[1]["annotations"] += copy.deepcopy(tasks[0]["annotations"])


def two_addresses(tasks: Tasks) -> None:
    tasks.append(copy.deepcopy(tasks[0]))
    tasks[-1]["data"] = {"image": RIGHT}


def two_other_fields(tasks: Tasks) -> None:
    tasks.append(copy.deepcopy(tasks[0]))
    tasks[-1]["data"]["sku"] = "A-1"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("contradict", [two_labels, two_tasks, two_addresses, two_other_fields])
def test_a_file_that_contradicts_itself_changes_nothing_the_second_time(
    known: Services, tmp_path: Path, contradict: Callable[[Tasks], None], later: bool
) -> None:
    tasks = dated()
    contradict(tasks)
    if later:
        tasks[-1] |= {"updated_at": LATE}
        for found in tasks[-1]["annotations"]:
            found["updated_at"] = LATE
    import_export(known, write(tmp_path, dated()), project="7")  # it was right before
    file = write(tmp_path, tasks)
    done = import_export(known, file, project="7")
    before, events = everything(known), known.journal.position()
    assert (done.annotations, done.left_out_reasons != {}) == (8, True)
    for _ in range(2):
        assert import_export(known, file, project="7").left_out == done.left_out
        assert (everything(known), known.journal.position()) == (before, events)


def live(tasks: Tasks, **fields: Any) -> list[AnnotationSaved]:
    """Return the same annotations as they come from Label Studio itself."""
    return [
        AnnotationSaved(
            "7",
            SOURCE,
            str(found["id"]),
            str(task["id"]),
            task["data"]["image"],
            parse_time(found["created_at"]),
            parse_time(found["updated_at"]),
            {**found, "task": task["id"], **fields},
        )
        for task in tasks
        for found in task["annotations"]
    ]


def test_what_was_deleted_in_label_studio_is_not_counted_as_taken(known: Services, tmp_path: Path) -> None:
    tasks = dated()
    known.journal.record(live(tasks))
    known.journal.record([AnnotationDeleted("7", SOURCE, id) for id in ("11", "12", "21")])
    known.journal.record([TaskDeleted("7", SOURCE, "4")])
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.annotations, done.left_out_reasons) == (3, {DELETED: 5})
    assert (done.accepted, done.waiting, done.unlabelled) == (1, 1, {"not_annotated": 2})
    assert "task 1: annotation 11" in done.problems


def test_what_label_studio_has_in_a_newer_form_is_not_counted_as_taken(known: Services, tmp_path: Path) -> None:
    newer = dated()
    for found in newer[0]["annotations"]:
        found["updated_at"] = LATE
        say(found, BLUE)
    say(newer[1]["annotations"][0], GREEN)  # without a later time, as a star that was moved
    known.journal.record(live(newer))
    done = import_export(known, write(tmp_path, dated()), project="7")
    assert labels(known) == {URIS[1]: BLUE, URIS[2]: None} | dict.fromkeys(URIS[3:], RED)
    assert (done.annotations, done.left_out_reasons) == (5, {OLDER_ANNOTATION: 2, ELSEWHERE: 1})


def test_what_label_studio_has_in_the_same_form_is_taken(known: Services, tmp_path: Path) -> None:
    known.journal.record(live(dated()))
    for name in ("export.json", "again.json"):
        write(tmp_path, dated()).rename(tmp_path / name)
        done = import_export(known, tmp_path / name, project="7")
        assert (done.annotations, done.accepted, done.left_out) == (8, 4, 0)


def test_skipped_annotations_are_counted(known: Services, tmp_path: Path) -> None:
    tasks = dated()
    for task in tasks[:3]:
        task["annotations"][0] |= {"was_cancelled": True, "result": []}
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.annotations, done.skipped) == (8, 3)
    assert import_export(known, write(tmp_path, dated()), project="7").skipped == 0


def test_the_source_is_named(known: Services, tmp_path: Path) -> None:
    assert import_export(known, write(tmp_path, dated()), project="7").source == "export.json"
