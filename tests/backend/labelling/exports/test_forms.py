"""The forms of exports: taken where they say enough, else refused with the export to use instead. By-hand files too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.label_studio_export import import_export, is_export
from taxonomist.backend.services import Services
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.taxonomy.errors import ConfigError
from tests.small_world import CONFIG

RED, BLUE = ["Warm", "Red"], ["Cold", "Blue"]
DAY = "2026-01-05T10:00:00Z"


@pytest.fixture
def known(services: Services) -> Services:
    services.projects.update("7", label_config=CONFIG)
    return services


def result(path: list[str]) -> list[dict[str, Any]]:
    return [{"id": "r", "from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}]


def by_hand(name: str, *people: object, path: list[str] = RED) -> dict[str, Any]:
    annotations = [{"completed_by": person, "result": result(path)} for person in people]
    return {"data": {"image": f"/data/upload/1/{name}.jpg"}, "annotations": annotations}


def write(folder: Path, content: object, name: str = "export.json") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def accepted(services: Services) -> list[object]:
    return [document.projects["7"].accepted for document in services.catalog.documents("7")]


def test_completions_of_old_exports_are_taken(known: Services, tmp_path: Path) -> None:
    completions = [
        {"id": 3001, "created_at": 1608552083, "completed_by": 1, "result": result(RED)},
        {"id": 3002, "created_at": 1608552090, "completed_by": 2, "result": result(RED)},
        {"id": 3003, "created_at": 1608552099, "completed_by": 3, "skipped": True, "result": []},
    ]
    truth = {"id": 4001, "created_at": 1608552083, "honeypot": True, "completed_by": 1, "result": result(BLUE)}
    tasks = [
        {"id": 3, "data": {"image": "a.jpg"}, "completions": completions, "predictions": []},
        {"id": 4, "data": {"image": "b.jpg"}, "completions": [truth]},
    ]
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.images, done.annotations, done.accepted, done.left_out) == (2, 4, 2, 0)
    assert sorted(str(record.created_at.year) for record in known.journal.annotations("7")) == ["2020"] * 4


@pytest.mark.parametrize("annotations", [[], None])
def test_completions_beside_annotations_are_taken(known: Services, tmp_path: Path, annotations: object) -> None:
    """A program has added the newer field, empty, or with another person's annotation."""
    first, second = ({"id": id, "completed_by": id, "created_at": DAY, "result": result(RED)} for id in (1, 2))
    tasks: list[dict[str, Any]] = [
        {"id": 1, "data": {"image": "a.jpg"}, "annotations": annotations, "completions": [first, second]},
        {"id": 2, "data": {"image": "b.jpg"}, "annotations": [first | {"id": 3}], "completions": [second | {"id": 4}]},
        {"id": 3, "data": {"image": "c.jpg"}, "completions": None},
    ]
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.images, done.annotations, done.accepted, done.left_out) == (3, 4, 2, 0)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"completions": {"result": result(RED)}, "annotations": None}, "its annotations are not a list"),
        ({"annotations": {"result": result(RED)}, "completions": []}, "its annotations are not a list"),
        ({"completions": [[]]}, "not an annotation"),
        ({"result": result(RED)}, "its result is outside of an annotation"),
        ({"result": result(RED), "annotations": []}, "its result is outside of an annotation"),
    ],
)
def test_an_answer_in_another_place_is_said(known: Services, tmp_path: Path, form: dict[str, Any], said: str) -> None:
    done = import_export(known, write(tmp_path, [{"data": {"image": "a.jpg"}} | form, by_hand("b", 1, 2)]), project="7")
    assert (done.images, done.accepted, done.left_out_reasons) == (2, 1, {"annotation that cannot be read": 1})
    assert said in done.problems[0]


def test_a_task_without_data_says_so(known: Services, tmp_path: Path) -> None:
    bare = {"image": "a.jpg", "annotations": by_hand("a", 1)["annotations"]}
    done = import_export(known, write(tmp_path, [bare, by_hand("b", 1, 2)]), project="7")
    assert (done.accepted, done.left_out_reasons) == (1, {"record of another form": 1})
    assert 'number 1 of the file: a task without an id, whose "data" is None' in done.problems[0]


def stored(id: int, person: int, path: list[str] = RED) -> dict[str, Any]:
    """Return an annotation as a target storage holds it."""
    task = {"id": 9, "data": {"image": "/data/upload/1/a.jpg"}, "meta": {}, "created_at": DAY, "project": 7}
    annotator = {"id": person, "email": f"{person}@example.com", "first_name": "A"}
    times = {"created_at": DAY, "updated_at": DAY}
    return {"id": id, "completed_by": annotator, "was_cancelled": False, "result": result(path), "task": task, **times}


def test_one_annotation_of_a_target_storage_is_taken(known: Services, tmp_path: Path) -> None:
    done = import_export(known, write(tmp_path, stored(5, 1)))
    assert (done.project, done.entries, done.images, done.annotations, done.waiting) == ("7", 1, 1, 1, 1)


def test_a_folder_of_a_target_storage_is_taken(known: Services, tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    (folder / "sub").mkdir(parents=True)
    write(folder, stored(5, 1), "5")
    write(folder / "sub", stored(6, 2), "6.json")
    (folder / ".DS_Store").write_bytes(b"\0")
    done = import_export(known, folder)
    assert (done.entries, done.images, done.annotations, done.accepted) == (2, 1, 2, 1)


def test_a_list_of_stored_annotations_and_a_single_task_are_taken(known: Services, tmp_path: Path) -> None:
    assert import_export(known, write(tmp_path, [stored(5, 1), stored(6, 2)])).accepted == 1
    single = {"id": 8, "project": 7, "data": {"image": "b.jpg"}, "annotations": [{"id": 1, "result": result(RED)}]}
    assert import_export(known, write(tmp_path, single)).waiting == 1


MIN = {"id": 11, "image": "a.jpg", "colour": [{"taxonomy": [RED]}], "annotator": 1, "annotation_id": 21, "lead_time": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([MIN], "JSON-MIN"),
        ([{key: value for key, value in MIN.items() if key != "colour"}], "JSON-MIN"),
        ({"images": [], "categories": [], "annotations": []}, "COCO"),
        ({"count": 1, "results": []}, "not a list of tasks"),
        (b"PK\x03\x04 and more", "zip archive"),
        ({"id": 5, "result": [], "task": 9}, "data of its task"),
        ([{"id": 5, "data": {"text": "no image"}}], "none of its 1 tasks"),
        ([{"id": 5}, {"data": None}], "none of its 2 tasks"),
    ],
)
def test_what_does_not_say_enough_names_the_export_to_use(
    known: Services, tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        import_export(known, write(tmp_path, content), project="7")
    if "none" not in message:
        assert "Export the project as JSON" in str(caught.value)
    assert known.catalog.count() == 0


@pytest.mark.parametrize("content", [b"[]", b" [ ]\n", b"\xef\xbb\xbf[]", "[]".encode("utf-16")])
@pytest.mark.parametrize("project", ["7", None])
def test_an_export_without_tasks_changes_nothing_and_says_so(
    known: Services, tmp_path: Path, content: bytes, project: str | None
) -> None:
    file = write(tmp_path, [by_hand("a", 1, 2)])
    import_export(known, file, project="7")
    before = [known.journal.fold().position, known.projects.get("7"), accepted(known)]
    for other in (write(tmp_path, content), tmp_path / "storage"):
        if other != file:
            other.mkdir()
            write(other, content, "1"), write(other, content, "2")
        with pytest.raises(ConfigError, match=r"has no tasks. A list of tasks is expected.*Nothing was changed"):
            import_export(known, other, project=project)
    assert [known.journal.fold().position, known.projects.get("7"), accepted(known)] == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # the last two as a spreadsheet saves it
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_the_export_csv_names_the_export_to_use(tmp_path: Path, separator: str, encoding: str) -> None:
    columns = ["image", "id", "colour", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"]
    with pytest.raises(ConfigError, match=r"export CSV of Label Studio.*Export the project as JSON"):
        is_export(write(tmp_path, f"{separator.join(columns)}\n1\n".encode(encoding), "export.csv"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b"", True),
        ("5", b'{"id": 5}', True),
        ("5", b'\xef\xbb\xbf [{"id": 5}]', True),
        ("a.csv", b"file,level1\na.jpg,[x]\n", False),
        ("a.csv", b"[file],level1\n", False),
        ("manifest", b"file,level1\n", False),
    ],
)
def test_an_export_is_known_by_its_content(tmp_path: Path, name: str, content: bytes, expected: bool) -> None:
    assert is_export(write(tmp_path, content, name)) is expected
    assert not is_export(tmp_path / "missing.csv")


def test_a_file_without_ids_and_times_is_taken_and_twice_is_once(known: Services, tmp_path: Path) -> None:
    tasks = [by_hand("a", 1, 2), by_hand("b", "anna", "bert"), by_hand("c", {"email": "a@b.c"}), by_hand("d", None)]
    file = write(tmp_path, tasks)
    first = import_export(known, file, project="7")
    assert (first.images, first.annotations, first.accepted, first.waiting, first.left_out) == (4, 6, 2, 2, 0)
    events = known.journal.fold().position
    assert import_export(known, file, project="7") == first
    write(tmp_path, [*reversed(tasks)])  # the order of the file does not matter
    assert import_export(known, file, project="7") == first
    assert known.journal.fold().position >= events
    assert len(list(known.journal.annotations("7"))) == 6


def test_a_corrected_file_without_ids_replaces_its_labels(known: Services, tmp_path: Path) -> None:
    file = write(tmp_path, [by_hand("a", 1, 2)])
    import_export(known, file, project="7")
    write(tmp_path, [by_hand("a", 1, 2, path=BLUE)])
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 5))
    import_export(known, file, project="7")
    assert accepted(known) == [{"colour": [BLUE]}]


def test_times_without_a_zone_are_utc(known: Services, tmp_path: Path) -> None:
    times = {"created_at": "2026-01-05T10:00:00", "updated_at": "2026-01-05 11:00:00.5"}
    annotations = [{"id": number, "completed_by": number, "result": result(RED), **times} for number in (1, 2)]
    task = {"id": 1, "data": {"image": "a.jpg"}, "annotations": annotations, "created_at": "2026-01-05T09:00:00"}
    assert import_export(known, write(tmp_path, [task]), project="7").accepted == 1
    assert next(known.journal.annotations("7")).created_at.isoformat() == "2026-01-05T10:00:00+00:00"


def test_the_data_of_tasks_alone_is_taken_as_label_studio_takes_it(known: Services, tmp_path: Path) -> None:
    done = import_export(known, write(tmp_path, [{"image": "a.jpg"}, {"image": "b.jpg", "sku": 4}]), project="7")
    assert (done.images, done.annotations, done.unlabelled) == (2, 0, {"not_annotated": 2})


def test_utf_16_is_read(known: Services, tmp_path: Path) -> None:
    content = json.dumps([by_hand("ä", 1, 2)], ensure_ascii=False).encode("utf-16")
    assert import_export(known, write(tmp_path, content), project="7").accepted == 1


def test_an_annotation_without_a_result_is_left_out(known: Services, tmp_path: Path) -> None:
    tasks = [by_hand("a", 1, 2) | {"annotations": [{"completed_by": 1}, *by_hand("a", 1, 2)["annotations"]]}]
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.accepted, done.left_out_reasons) == (1, {"annotation that cannot be read": 1})


def test_duplicates_in_a_file_are_one_image(known: Services, tmp_path: Path) -> None:
    annotations = [{"id": n, "completed_by": n, "created_at": DAY, "result": result(RED)} for n in (1, 2)]
    task = {"id": 1, "data": {"image": "a.jpg"}, "created_at": DAY, "annotations": annotations}
    done = import_export(known, write(tmp_path, [task, task]), project="7")
    assert (done.entries, done.images, done.annotations, done.accepted) == (2, 1, 2, 1)


@pytest.mark.parametrize("name", ["4.1795531934", "2024.11", " ", ""])
def test_a_file_never_gets_the_name_of_a_label_studio(known: Services, tmp_path: Path, name: str) -> None:
    """As a Label Studio's own, its tasks would be deleted by the next pass."""
    file = write(tmp_path, [by_hand("a", 1)])
    with pytest.raises(ConfigError, match=r"name of the source|source cannot be called"):
        import_export(known, file, project="7", source=name)
    assert known.journal.pending() == 0


def test_the_folder_that_one_stands_in_has_its_own_name(
    known: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "storage"
    folder.mkdir()
    write(folder, [by_hand("a", 1)])
    monkeypatch.chdir(folder)
    import_export(known, Path(), project="7")
    assert known.journal.sources("7") == ["storage"]


def test_files_of_several_projects_need_a_name(known: Services, tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    folder.mkdir()
    for number in (3, 4):
        write(folder, [{**by_hand("a", 1), "project": number}], f"{number}.json")
    with pytest.raises(ConfigError, match="tasks of several projects: 3, 4"):
        import_export(known, folder)


def test_an_import_that_can_use_nothing_keeps_the_labelling_config(known: Services, tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    other.write_text(CONFIG.replace('value="$image"', 'value="$photo"'))
    with pytest.raises(ConfigError, match="none of its 1 tasks"):
        import_export(known, write(tmp_path, [by_hand("a", 1)]), project="7", config=other)
    assert known.projects.get("7").label_config == CONFIG


def test_a_new_labelling_config_decides_all_images_anew(known: Services, tmp_path: Path) -> None:
    import_export(known, write(tmp_path, [by_hand("a", 1, 2)]), project="7")
    assert accepted(known) == [{"colour": [RED]}]
    shorter = tmp_path / "shorter.xml"
    shorter.write_text(CONFIG.replace('<Choice value="Red"/>', ""))
    second = write(tmp_path, [by_hand("b", 1, 2, path=BLUE)], "second.json")
    import_export(known, second, project="7", config=shorter)
    assert sorted(map(str, accepted(known))) == sorted(map(str, [{"colour": [["Warm"]]}, {"colour": [BLUE]}]))


def test_labels_of_a_control_that_the_config_does_not_have_are_counted(known: Services, tmp_path: Path) -> None:
    tasks = [by_hand("a", 1, 2), by_hand("b", 1, 2)]
    for annotation in tasks[1]["annotations"]:
        annotation["result"][0]["from_name"] = "category"
    summary = import_export(known, write(tmp_path, tasks), project="7")
    reason = "label of a control that the labelling config does not have"
    assert (summary.accepted, summary.left_out_reasons) == (1, {reason: 2})
    assert 'of the control "category"; the labelling config has colour' in summary.problems[0]
    assert any(f"2 × {reason}" in line for line in status_lines(collect_status(known)))
