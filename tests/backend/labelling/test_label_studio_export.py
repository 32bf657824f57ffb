"""Imports of Label Studio exports: streamed; unusable tasks are reported and do not affect the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.labelling.import_result import MOST_PROBLEMS
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.storage.catalog import ImageDocument, LabelQuery
from taxonomist.taxonomy.errors import ConfigError
from tests.homes import DATA
from tests.small_world import CONFIG

ROOT = Path(__file__).parents[3]
RED, BLUE, GREEN = ["Warm", "Red"], ["Cold", "Blue"], ["Cold", "Green"]
DAY = "2026-11-24T15:00:00Z"


def annotation(id: int, person: int, *paths: list[str], **fields: Any) -> dict[str, Any]:
    result = [{"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": list(paths)}}]
    return {"id": id, "completed_by": person, "created_at": DAY, "updated_at": DAY, "result": result, **fields}


def task(id: int, *annotations: Any, **fields: Any) -> dict[str, Any]:
    data = {"image": f"http://127.0.0.1/{id}.jpg", "weight": 0.5}
    return {"id": id, "project": 7, "created_at": DAY, "data": data, "annotations": list(annotations), **fields}


def agreed(id: int, path: list[str] = RED) -> dict[str, Any]:
    return task(id, annotation(10 * id, 3, path), annotation(10 * id + 1, 4, path))


def write(folder: Path, tasks: object, *, before: bytes = b"") -> Path:
    file = folder / "export.json"
    file.write_bytes(before + json.dumps(tasks).encode())
    return file


@pytest.fixture
def known(services: Services) -> Services:
    """A home with an empty project "7"."""
    services.projects.update("7", label_config=CONFIG)
    return services


def documents(services: Services) -> list[dict[str, Any]]:
    stored = (document.model_copy(update={"etag": None}) for document in services.catalog.documents("7"))
    return [json.loads(document.model_dump_json(exclude={"projects": {"7": {"updated_at"}}})) for document in stored]


def test_annotators_are_unified_as_in_listing_4_3(known: Services, tmp_path: Path) -> None:
    later = {"created_at": "2026-11-25T15:00:00Z", "updated_at": "2026-11-25T15:00:00Z"}
    tasks = [
        task(1, annotation(1, 706, RED), annotation(2, 709, RED, GREEN), annotation(3, 1662, RED)),
        task(2, annotation(4, 706, RED), annotation(5, 706, BLUE, **later)),  # who annotates again is one annotator
        task(3, annotation(6, 706, GREEN, reviews=[{"accepted": True}])),
        task(4),
    ]
    done = import_export(known, write(tmp_path, tasks))
    assert (done.project, done.images, done.annotations, done.labelled) == ("7", 4, 6, 2)
    assert (done.problems, done.left_out) == ((), 0)
    found = {document["projects"]["7"]["task_id"]: document for document in documents(known)}
    unified = [(entry["annotator_id"], entry["taxonomy"]) for entry in found["1"]["labels_with_taxonomy"]]
    assert unified == [(1662, [RED]), (706, [RED]), (709, [RED, GREEN])]
    assert (found["1"]["total_annotations"], found["1"]["has_review"]) == (3, False)
    assert [entry["taxonomy"] for entry in found["2"]["labels_with_taxonomy"]] == [[BLUE]]
    assert found["2"]["total_annotations"] == 1
    assert (found["3"]["total_annotations"], found["3"]["has_review"]) == (1, True)
    assert found["4"]["labels_with_taxonomy"] == []
    several = [match.document.projects["7"].task_id for match in known.catalog.find(LabelQuery(min_annotators=2))]
    assert several == ["1"]


def test_an_annotator_of_two_controls_counts_once() -> None:
    entries = [{"annotator_id": 3, "control": "colour"}, {"annotator_id": 3, "control": "shape"}, {"annotator_id": "b"}]
    labels = ImageDocument.model_validate({"id": "a", "labels_with_taxonomy": entries}).labels_with_taxonomy
    assert ImageDocument(id="a").annotated("7", labels, has_review=False).total_annotations == 2


def test_times_may_be_missing(known: Services, tmp_path: Path) -> None:
    undated = {"created_at": None, "updated_at": None}
    tasks = [task(1, annotation(1, 3, RED, **undated), annotation(2, 4, RED, **undated), created_at=None)]
    assert import_export(known, write(tmp_path, tasks)).labelled == 1
    tasks[0]["annotations"] = [annotation(1, 3, BLUE, **undated), annotation(2, 4, BLUE, **undated)]
    export = write(tmp_path, tasks)
    os.utime(export, (export.stat().st_atime, export.stat().st_mtime + 5))
    import_export(known, export)
    assert [document["projects"]["7"]["accepted"] for document in documents(known)] == [{"colour": [BLUE]}]


def test_imported_twice_is_imported_once(known: Services, tmp_path: Path) -> None:
    undated = {key: value for key, value in task(5).items() if key != "created_at"}
    export = write(tmp_path, [agreed(1), agreed(2, BLUE), undated])
    first = import_export(known, export)
    before = documents(known)
    version = known.projects.get("7").labels_version
    events = known.journal.fold().position
    assert import_export(known, export) == first
    assert documents(known) == before
    assert known.projects.get("7").labels_version == version
    assert known.journal.fold().position == events  # nothing new was recorded


def test_a_recorded_export_gives_the_same_with_a_byte_order_mark(known: Services, tmp_path: Path) -> None:
    tasks = json.loads((DATA / "export.json").read_text(encoding="utf-8"))
    done = import_export(known, write(tmp_path, tasks, before=b"\xef\xbb\xbf"), project="7")
    assert done.images == len(tasks)
    assert done.annotations == sum(len(task["annotations"]) for task in tasks)


BROKEN: list[Any] = [
    None,
    "a text",
    [["nested"]],
    {},
    {"id": 50},
    {"id": 51, "data": {"image": None}},
    task(53, annotations="none"),
    task(54, "no annotation"),
    task(55, annotation(1, 3, RED, created_at="soon")),
    task(56, annotation(2, 3, created_at="9999-12-31T23:59:59-05:00", updated_at="9999-12-31T23:59:59-05:00")),
    task(57, annotation(3, 3, result="none")),
    task(58, annotation(4, 3, ["Warm", "Rad"])),
    task(59, created_at="0001-01-01T00:00:00+05:00"),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_task_in_the_middle_costs_itself_only(known: Services, tmp_path: Path, broken: Any) -> None:
    good = [agreed(1), agreed(2, BLUE), agreed(3, GREEN)]
    done = import_export(known, write(tmp_path, [*good[:1], broken, *good[1:]]))
    assert done.labelled == 3
    assert done.left_out == len(done.problems) > 0
    name = f"task {broken['id']}: " if isinstance(broken, dict) and broken else "number 2 of the file"
    assert all(name in problem for problem in done.problems)


def test_a_time_of_a_task_that_cannot_be_read_is_that_of_the_file(known: Services, tmp_path: Path) -> None:
    done = import_export(known, write(tmp_path, [agreed(1) | {"created_at": "yesterday"}]))
    assert (done.accepted, done.left_out) == (1, 0)


def test_an_annotation_that_cannot_be_used_costs_itself_only(known: Services, tmp_path: Path) -> None:
    both = task(1, annotation(1, 3, RED), {"completed_by": 5}, annotation(3, 4, RED))
    done = import_export(known, write(tmp_path, [both]))
    assert (done.images, done.annotations, done.labelled, done.left_out) == (1, 2, 1, 1)


def region(value: Any, name: str = "colour") -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": "taxonomy", "value": value}


@pytest.mark.parametrize(
    "odd",
    [
        {"from_name": "colour", "to_name": "image", "type": "taxonomy"},
        region(None),
        region({}),
        region({"taxonomy": [[]]}),
        region({"taxonomy": ["Warm"]}),
        region({"taxonomy": {"Warm": "Red"}}),
        region("text"),
    ],
)
def test_a_region_that_cannot_be_read_costs_that_region_only(known: Services, tmp_path: Path, odd: Any) -> None:
    good = region({"taxonomy": [RED]})
    annotations = [annotation(number, number, result=[good, odd]) for number in (1, 2)]
    done = import_export(known, write(tmp_path, [task(1, *annotations)]))
    assert (done.annotations, done.accepted) == (2, 1)
    assert done.left_out_reasons == {"region that cannot be read": 2}
    assert all("task 1: annotation" in problem and '"colour"' in problem for problem in done.problems)


@pytest.mark.parametrize(
    "odd", [region(None), None, "text", [region({"taxonomy": [RED]})], {"value": {"taxonomy": [RED]}}]
)
def test_an_annotation_whose_only_region_cannot_be_read_is_not_an_empty_one(
    known: Services, tmp_path: Path, odd: Any
) -> None:
    annotations = [annotation(number, number, result=[odd]) for number in (1, 2)]
    done = import_export(known, write(tmp_path, [task(1, *annotations)]))
    assert (done.annotations, done.accepted, done.unlabelled) == (2, 0, {"unreadable": 1})
    assert done.left_out_reasons == {"region that cannot be read": 2}


@pytest.mark.parametrize("odd", [region("text", "size"), {"from_name": 3, "value": []}, {"id": "r"}])
def test_what_other_controls_hold_is_ignored(known: Services, tmp_path: Path, odd: Any) -> None:
    annotations = [annotation(number, number, result=[region({"taxonomy": [RED]}), odd]) for number in (1, 2)]
    done = import_export(known, write(tmp_path, [task(1, *annotations)]))
    assert (done.accepted, done.left_out) == (1, 0)


def test_nameless_annotations_of_an_export_count_one_by_one(known: Services, tmp_path: Path) -> None:
    """The accounts of their annotators are deleted."""
    tasks = [task(id, annotation(10 * id, 3, RED), annotation(10 * id + 1, 4, RED)) for id in (1, 2)]
    for found in (found for each in tasks for found in each["annotations"]):
        found["completed_by"] = None
    done = import_export(known, write(tmp_path, tasks))
    assert (done.annotations, done.accepted, done.left_out) == (4, 2, 0)


def test_an_account_that_is_deleted_takes_no_label_from_a_later_export(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, [agreed(1)]))
    nameless = agreed(1)
    for found in nameless["annotations"]:
        found["completed_by"] = None
    done = import_export(known, write(tmp_path, [nameless]))
    assert (done.annotations, done.accepted, done.left_out) == (2, 1, 0)
    assert [record.data["completed_by"] for record in known.journal.annotations("7")] == [3, 4]


def test_the_models_annotations_in_an_export_are_no_opinions(known: Services, tmp_path: Path) -> None:
    """*Create annotations from predictions*, pressed by person 5, before the export."""
    made = {"parent_prediction": 8, "lead_time": None, "updated_at": "2026-11-25T15:00:00Z"}
    open_task = task(2, annotation(20, 5, BLUE, **made), annotation(21, 3, BLUE, lead_time=3.5))
    tasks = [agreed(1), open_task, task(3, annotation(30, 5, **made), annotation(31, 3, RED), annotation(32, 4, RED))]
    tasks[0]["annotations"].append(annotation(12, 5, BLUE, **made))
    done = import_export(known, write(tmp_path, tasks))
    assert (done.annotations, done.accepted, done.waiting) == (8, 2, 1)
    labels = [document["projects"]["7"]["accepted"] for document in documents(known)]
    assert sorted(map(str, labels)) == ["{'colour': [['Warm', 'Red']]}"] * 2 + ["{}"]


def test_the_summary_counts_what_became_of_the_input(known: Services, tmp_path: Path) -> None:
    tasks = [
        agreed(1),
        agreed(2, BLUE),
        task(3, annotation(30, 3, RED)),  # one of two annotators
        task(4, annotation(40, 3, RED), annotation(41, 4, BLUE)),
        task(5, annotation(50, 3, ["Warm", "Rad"]), annotation(51, 4, ["Warm", "Rad"])),  # Warm is agreed on
        task(6, annotation(60, 3, ["Hot"]), annotation(61, 4, ["Hot"])),
        task(7),
        {"id": 8, "data": {}},
        agreed(1) | {"id": 9, "annotations": []},  # the image of task 1 again
    ]
    done = import_export(known, write(tmp_path, tasks))
    assert (done.entries, done.images, done.annotations) == (9, 7, 11)
    assert (done.accepted, done.waiting) == (3, 1)
    assert done.unlabelled == {"no_agreement": 1, "unknown_paths": 1, "not_annotated": 1}
    assert done.accepted + done.waiting + sum(done.unlabelled.values()) == done.images
    assert done.unknown_names == {"Warm › Rad": 2, "Hot": 2}
    assert done.left_out_reasons == {"name that the taxonomy does not have": 4, "task without an image": 1}
    assert (done.left_out, len(done.problems)) == (5, 5)


ALIASES = CONFIG.replace('value="Warm"', 'value="Warm" alias="W"').replace('value="Red"', 'value="Red" alias="W-01"')


@pytest.mark.parametrize("path", [["W", "W-01"], ["Warm", "Red"], ["W", "Red"], ["Warm", "W-01"]])
def test_an_alias_that_was_added_later_and_the_value_name_the_same_choice(
    known: Services, tmp_path: Path, path: list[str]
) -> None:
    known.projects.update("7", label_config=ALIASES)
    done = import_export(known, write(tmp_path, [agreed(1, path)]))
    assert (done.accepted, done.left_out) == (1, 0)
    assert documents(known)[0]["projects"]["7"]["accepted"] == {"colour": [["W", "W-01"]]}


def test_labels_follow_when_an_alias_is_added(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, [agreed(1)]))
    known.projects.update("7", label_config=ALIASES)
    decide_anew(known, "7")
    assert documents(known)[0]["projects"]["7"]["accepted"] == {"colour": [["W", "W-01"]]}


def test_of_very_many_problems_the_first_are_kept_and_all_are_counted(known: Services, tmp_path: Path) -> None:
    done = import_export(known, write(tmp_path, [agreed(1), *([None] * (MOST_PROBLEMS + 5))]))
    assert (len(done.problems), done.left_out, done.images) == (MOST_PROBLEMS, MOST_PROBLEMS + 5, 1)


def test_numbers_of_any_size_are_read(known: Services, tmp_path: Path) -> None:
    text = json.dumps([agreed(1)]).replace('"weight": 0.5', f'"weight": {2**70}, "huge": 1e400')
    (tmp_path / "export.json").write_text(text.replace('"completed_by": 3', '"completed_by": 3, "lead_time": 5.25'))
    assert import_export(known, tmp_path / "export.json").labelled == 1
    assert [record.data.get("lead_time") for record in known.journal.annotations("7")] == [5.25, None]
    recorded = known.journal.position()
    assert known.journal.counts.people("7") == 2  # SQLite can read the rows
    import_export(known, tmp_path / "export.json")
    assert known.journal.position() == recorded  # it says the same


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([agreed(1), agreed(2)]).encode()[:-400], "ends in the middle"),
        (b"[", "ends in the middle"),
        (b"", "ends in the middle"),
        (json.dumps({"tasks": [agreed(1)]}).encode(), "not a list of tasks"),
        (b"7", "not a list of tasks"),
        (b'"text"', "not a list of tasks"),
        (b"id,annotations\n", "not JSON"),
        (b"\x89PNG\r\n", "not JSON"),
        (json.dumps([agreed(1)]).encode() + b" and more", "not JSON"),
        (json.dumps([agreed(1)]).encode()[:-1] + b', {"a": "\xff"}]', "not JSON"),
        (b"[" * 3000 + b"]" * 3000, "deep"),
        (b'[{"id": 1, "data": {"image": "a.jpg"}}]', "name its project"),
    ],
)
def test_a_file_that_is_no_export_changes_nothing(
    known: Services, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "export.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        import_export(known, tmp_path / "export.json")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert known.catalog.count() == 0
    assert known.journal.fold().events == 0


def test_a_labelling_config_that_cannot_be_read_is_an_error(known: Services, tmp_path: Path) -> None:
    export = write(tmp_path, [agreed(1)])
    with pytest.raises(ConfigError, match=r"none\.xml"):
        import_export(known, export, config=tmp_path / "none.xml")
    (tmp_path / "bad.xml").write_text("<View/>")
    with pytest.raises(ConfigError):
        import_export(known, export, project="8", config=tmp_path / "bad.xml")
    assert known.projects.get("8").label_config == ""


def test_progress_counts_tasks(known: Services, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    import_export(
        known, write(tmp_path, [task(id) for id in range(1201)]), progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(500, 1201), (1000, 1201), (1201, 1201)]


def write_large(file: Path, megabytes: int) -> int:
    """Write an export of about that size with tasks of 10 kB, as predictions make them; return their number."""
    padding = "x" * 9_000
    count = megabytes * 100
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            out.write("[" if number == 0 else ",\n")
            json.dump(agreed(number) | {"predictions": [{"result": padding}]}, out)
        out.write("]")
    return count


_CHILD = """
import resource, sys
from pathlib import Path
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.small_world import CONFIG
services = Services(Settings(home=Path(sys.argv[1])))
services.projects.update("7", label_config=CONFIG)
done = import_export(services, Path(sys.argv[2]))
print(done.labelled, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peak = {}
    for megabytes in (10, 50):
        export = tmp_path / f"{megabytes}.json"
        count = write_large(export, megabytes)
        assert export.stat().st_size > megabytes * 950_000
        command = [sys.executable, "-c", _CHILD, str(tmp_path / f"home{megabytes}"), str(export)]
        out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        assert int(out[0]) == count
        peak[megabytes] = int(out[1]) / 1024
    assert peak[50] < peak[10] + 10, peak  # MB; read whole, the larger file takes some 100 more
