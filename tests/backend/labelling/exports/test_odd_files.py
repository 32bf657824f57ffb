"""Files that no parser takes, and values that no message can hold: an error with file and place, or a short line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxonomist.backend.labelling.exports.json_stream import MOST_DIGITS, read_items
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.taxonomy.errors import ConfigError, TaxonomistError
from tests.backend.labelling.exports.conftest import everything, labels
from tests.backend.labelling.test_label_studio_export import RED, agreed, annotation, task, write
from tests.small_world import CONFIG

LONG = b"9" * 5000
BIG = "1e99999999999999999999"
GOOD = json.dumps(agreed(1)).encode()


def with_number(number: bytes, place: str) -> bytes:
    """Return an export whose second task has the number as its id, in its data, a result or a field beside them."""
    bad = task(2, annotation(20, 3, RED, lead_time="LEAD"), meta={"deep": [{"x": "META"}]})
    bad["id"] = "ID"
    bad["data"] |= {"weight": "DATA"}
    bad["annotations"][0]["result"].append({"from_name": "box", "value": {"x": "RESULT"}})
    text = json.dumps([agreed(1), bad, agreed(3)]).encode()
    return text.replace(f'"{place}"'.encode(), number)


@pytest.mark.parametrize("number", [LONG, b"-" + LONG, b"0." + LONG, b"1e" + LONG, BIG.encode(), b"NaN", b"-Infinity"])
@pytest.mark.parametrize("place", ["ID", "DATA", "RESULT", "META", "LEAD"])
def test_a_number_that_cannot_be_read_changes_nothing(
    known: Services, tmp_path: Path, number: bytes, place: str
) -> None:
    content = with_number(number, place)
    import_export(known, write(tmp_path, [agreed(1)]), project="7")
    before = everything(known)
    (tmp_path / "export.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"export\.json .*at byte ([\d,]+)") as caught:
        import_export(known, tmp_path / "export.json", project="7")
    message = str(caught.value)
    assert len(message) < 400 + len(str(tmp_path))
    position = int(message.split("at byte ")[1].split(".")[0].split(":")[0].replace(",", ""))
    start = content.index(number) + 1
    assert start <= position <= start + len(number)
    assert everything(known) == before


def test_the_command_ends_with_one_line(tmp_path: Path) -> None:
    """A number of 5,000 digits ended the process, or showed a traceback."""
    (tmp_path / "export.json").write_bytes(b'[{"id": ' + LONG + b', "data": {"image": "a.jpg"}}]')
    (tmp_path / "config.xml").write_text(CONFIG)
    options = ["--project", "7", "--config", str(tmp_path / "config.xml")]
    command = [sys.executable, "-m", "taxonomist", "--home", str(tmp_path / "home"), "import"]
    done = subprocess.run(
        [*command, str(tmp_path / "export.json"), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "more than 600 digits at byte 9" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("before", [0, 1, 65_536 - 700, 65_536 - 8, 200_000])
@pytest.mark.parametrize("wide", [False, True])
def test_digits_in_a_text_are_no_number(known: Services, tmp_path: Path, before: int, wide: bool) -> None:
    digits = "7" * (MOST_DIGITS + 200)
    good = agreed(1)
    good["data"] |= {"pad": "x" * before, "ocr": digits, "quoted": f'\\"{digits}\\', digits: digits}
    file = write(tmp_path, [good])
    if wide:
        file.write_bytes(file.read_text().encode("utf-16"))
    assert import_export(known, file, project="7").accepted == 1
    text = json.dumps([good]).replace('"weight": 0.5', f'"weight": {digits}')
    file.write_bytes(text.encode("utf-16") if wide else text.encode())
    with pytest.raises(ConfigError, match="more than 600 digits") as caught:
        import_export(known, file, project="7")
    assert f"at byte {text.index(digits) + 1:,}." in str(caught.value)


def test_numbers_of_many_digits_are_read(tmp_path: Path) -> None:
    numbers = ["9" * MOST_DIGITS, "-" + "9" * 100, "1e400", "1e999999999", "0." + "3" * MOST_DIGITS, str(2**70)]
    (tmp_path / "n.json").write_text(f"[{', '.join(numbers)}]")
    assert len(list(read_items(tmp_path / "n.json", "item"))) == len(numbers)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.text(alphabet='a"\\9é', max_size=30)
        | st.integers()
        | st.just("9" * 700)
        | st.text(alphabet='"\\', max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=12,
    ),
    st.integers(0, 3),
)
def test_any_json_is_read_as_json_reads_it(value: Any, spread: int) -> None:
    file = Path(f"/dev/shm/odd-{spread}.json") if Path("/dev/shm").is_dir() else Path(f"odd-{spread}.json")
    file.write_text(json.dumps([value], ensure_ascii=False, indent=spread or None), encoding="utf-8")
    try:
        assert list(read_items(file, "item")) == [value]
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" + GOOD + b', {"a": "\xff"}]', f"at byte {len(GOOD) + 11:,}"),
        (b"[" + GOOD + b', {"a": "\xe4', "ends in the middle"),
        (b"[" + GOOD + b"," * 70_000, f"at byte {len(GOOD) + 3:,}"),
        (b"[" + (GOOD + b",") * 2000 + b"}", f"at byte {2000 * (len(GOOD) + 1) + 2:,}"),
        (b"[" + GOOD + b"] 7", "at its end"),
        (json.dumps([agreed(1)]).encode("utf-16")[:-3], "ends in the middle"),
        (json.dumps([agreed(1)]).replace("7", "NaN").encode("utf-16"), "at byte "),
        (b"\xff\xfe[\x00\x00\xd8\x00\xd8", "not UTF-16"),
        (b"[" * 100_000, "nested more than 200 deep"),
        (b'[{"a":' * 100_000, "nested more than 200 deep"),
        (b"[" + GOOD[:-1] + b', "meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "nested more than 200 deep"),
        (json.dumps({"x" * 100_000: 1, "y\n\x1b[2J": 2}).encode(), r"100,000 characters\), y\\n\\x1b"),
    ],
)
def test_what_is_wrong_and_where(known: Services, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "export.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        import_export(known, tmp_path / "export.json", project="7")
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()
    assert known.journal.fold().events == 0


# --- values that come from outside, in messages


HUGE = "wide\n" * 20_000
SHORT = 1100


def odd_tasks() -> list[Any]:
    """Return tasks with a text of 100,000 characters in each place that a message names."""
    region = {"to_name": "image", "type": "taxonomy", "from_name": "colour"}
    nameless = {"from_name": HUGE, "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [RED]}}
    return [
        agreed(1),
        task(2, annotation(20, 3, result=[nameless]), annotation(21, 4, result=[nameless])),
        task(3, annotation(30, 3, ["Warm", HUGE]), annotation(31, 4, [HUGE])),
        task(4, annotation(40, 3, result=[{**region, "value": {"taxonomy": [HUGE]}}])),
        task(5, annotation(50, 3, result=[{**region, "value": HUGE}])),
        task(6, {**annotation(60, 3, RED), "id": HUGE}),
        task(7, {**annotation(70, 3, RED), "id": HUGE, "result": None}),
        task(8, {**annotation(80, 3, RED), "created_at": HUGE}),
        task(9, annotation(90, 3, result=HUGE)),
        {**agreed(10), "id": HUGE},
        {"id": 11, "data": {HUGE: HUGE}},
        {"id": 12, "data": {"image": HUGE}},
        {"id": 13, "data": HUGE},
        {**agreed(14), "annotations": HUGE},
        {**agreed(15), "annotations": [HUGE]},
        HUGE,
        [HUGE],
    ]


def test_no_message_has_a_long_value(known: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = import_export(known, write(tmp_path, odd_tasks()), project="7")
    assert done.left_out == len(done.problems) >= 16
    assert [problem for problem in done.problems if len(problem) > SHORT or not problem.isprintable()] == []
    assert all("characters)" in problem for problem in done.problems if "wide" in problem)
    assert max(map(len, done.unknown_names)) < SHORT
    for line in [*status_lines(collect_status(known)), *caplog.messages]:
        assert len(line) < SHORT
        assert line.isprintable()


# --- ids


@pytest.mark.parametrize("twice", [[7, 7.0], [7, "7"], ["7", " 7 "], [7.0, "7"], [2.5, "2.5"]])
def test_ids_that_are_one_id_count_within_their_tasks(known: Services, tmp_path: Path, twice: list[object]) -> None:
    """An id stands under two tasks for two annotations, once as a number and once as a text."""
    tasks = [task(number, annotation(0, 3, RED), created_at=None) for number in (1, 2)]
    for found, id in zip(tasks, twice, strict=True):
        found["annotations"][0] |= {"id": id, "created_at": None, "updated_at": None}
        found["annotations"].append({**found["annotations"][0], "id": f"{found['id']}b", "completed_by": 4})
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (done.annotations, done.accepted, done.left_out) == (4, 2, 0)


@pytest.mark.parametrize("project", [7, 7.0, "7", " 7 "])
def test_the_project_that_a_file_names(known: Services, tmp_path: Path, project: object) -> None:
    assert import_export(known, write(tmp_path, [agreed(1) | {"project": project}])).project == "7"


@pytest.mark.parametrize("project", ["a" * 100_000, "../../x", "a/b", "\n"])
def test_a_name_that_no_project_may_have(known: Services, tmp_path: Path, project: str) -> None:
    """Also in a file: it became a part of the name of a file."""
    write(tmp_path, [agreed(1) | {"project": project}])
    for named in (None, project):
        with pytest.raises(TaxonomistError) as caught:
            import_export(known, tmp_path / "export.json", project=named)
        assert len(str(caught.value)) < 300 + len(str(tmp_path))
    assert [path.name for path in known.home.rglob("*.lock") if path.name.startswith("import-")] == []


# --- one task several times


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_task_that_the_file_has_several_times_is_imported_twice(known: Services, tmp_path: Path, count: int) -> None:
    """By hand: the same id for different images. The first one counts, and the file again changes nothing."""
    tasks = [{"id": 1, "data": {"image": f"/{number}.jpg"}, "annotations": []} for number in range(count)]
    file = write(tmp_path, tasks)
    first = import_export(known, file, project="7")
    assert (first.images, first.left_out) == (1, count - 1)
    before = everything(known)
    assert import_export(known, file, project="7") == first
    assert everything(known) == before
    other = write(tmp_path, [{"id": 1, "data": {"image": "/other.jpg"}, "annotations": []}] * count)
    with pytest.raises(ConfigError, match="the ids of 1 of its"):
        import_export(known, other, project="7")
    assert set(labels(known)) == {first_image(tasks)}


def first_image(tasks: list[dict[str, Any]]) -> str:
    return str(tasks[0]["data"]["image"])
