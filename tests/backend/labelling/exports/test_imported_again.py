"""The same file again changes nothing, and a second delivery with the numbers of the first takes nothing from it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from taxonomist.backend.labelling.exports import importing
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.labelling.exports.conftest import everything, labels
from tests.backend.labelling.test_label_studio_export import BLUE, RED, annotation

Tasks = list[dict[str, Any]]
MONDAY, TUESDAY = "2026-01-05T10:00:00.100001Z", "2026-01-06T10:00:00.200002Z"
NEVER: dict[str, Any] = {"created_at": None, "updated_at": None}


def write(folder: Path, tasks: Tasks) -> Path:
    file = folder / "labels.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return file


def delivery(image: str, path: list[str], **times: Any) -> Tasks:
    return [{"data": {"image": image}, "annotations": [annotation(n, 2 + n, path, **times) for n in (1, 2)]}]


@pytest.mark.parametrize(
    "times",
    [
        NEVER,
        {"created_at": MONDAY, "updated_at": MONDAY},
        {"created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-01-05T10:00:00Z"},
    ],
)
def test_a_second_delivery_that_begins_to_count_anew(known: Services, tmp_path: Path, times: dict[str, Any]) -> None:
    import_export(known, write(tmp_path, delivery("/a.jpg", RED, **times)), project="7")
    second = write(tmp_path, delivery("/b.jpg", BLUE, **times))
    with pytest.raises(ConfigError, match="--source"):
        import_export(known, second, project="7")
    assert labels(known) == {"/a.jpg": RED}
    if times["created_at"] != MONDAY:  # with it, they are the same two annotations for a Label Studio
        import_export(known, second, project="7", source="second")
        assert labels(known) == {"/a.jpg": RED, "/b.jpg": BLUE}


def of_target_storage(id: int, image: str, changed: str) -> dict[str, Any]:
    """Return the file of an annotation, with its task as it was then."""
    task = {"id": 1, "project": 7, "data": {"image": image}, "created_at": MONDAY, "updated_at": changed}
    times = {"created_at": changed, "updated_at": changed}
    return {**annotation(id, 2 + id, RED, unique_id=f"u{id}", **times), "project": 7, "task": task}


def moved_and_changed(image: str) -> Tasks:
    """Return an old export and a new one in one file; annotation 10 has gone to the other task, with a new answer."""
    day = {"created_at": MONDAY, "updated_at": MONDAY}
    other = annotation(11, 4, RED, unique_id="v", **day)
    former = annotation(10, 3, RED, unique_id="u", **day)
    later = annotation(10, 3, BLUE, unique_id="u", created_at=MONDAY, updated_at=TUESDAY)
    return [
        {"id": 1, "data": {"image": "/a.jpg"}, **day, "annotations": [former]},
        {"id": 2, "data": {"image": image}, **day, "annotations": [other]},
        {"id": 2, "data": {"image": image}, **day, "updated_at": TUESDAY, "annotations": [other, later]},
    ]


@pytest.mark.parametrize("chunk", [1, 500])
@pytest.mark.parametrize(
    "tasks",
    [
        [of_target_storage(1, "/old.jpg", MONDAY), of_target_storage(2, "/new.jpg", TUESDAY)],
        moved_and_changed("/a.jpg"),
        moved_and_changed("/b.jpg"),
    ],
)
def test_the_same_file_again_changes_nothing(
    known: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: Tasks, chunk: int
) -> None:
    monkeypatch.setattr(importing, "CHUNK", chunk)
    file = write(tmp_path, tasks)
    first = import_export(known, file, project="7")
    kept = everything(known)
    assert first.annotations == len(kept[1]) == 2
    for _ in range(2):
        import_export(known, file, project="7")
        assert everything(known) == kept


def test_a_corrected_address_within_one_file(known: Services, tmp_path: Path) -> None:
    tasks = [of_target_storage(1, "/old.jpg", MONDAY), of_target_storage(2, "/new.jpg", TUESDAY)]
    assert import_export(known, write(tmp_path, tasks), project="7").accepted == 1
    assert labels(known) == {"/new.jpg": RED}


def test_an_import_waits_for_another_one(known: Services, tmp_path: Path) -> None:
    """Its file is compared with what is kept, which the other one is changing."""
    file = write(tmp_path, delivery("/a.jpg", RED, **NEVER))
    importing = threading.Thread(target=import_export, args=(Services(known.settings), file), kwargs={"project": "7"})
    with FileLock(known.home / "import-7.lock"):
        importing.start()
        importing.join(2)
        assert importing.is_alive()
        assert labels(known) == {}
    importing.join()
    assert labels(known) == {"/a.jpg": RED}
