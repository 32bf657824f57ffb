"""Exports as people report them: each situation through the command line, from the file to the catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json

CHOICES = '<Choice value="Warm"><Choice value="Red"/></Choice><Choice value="Cold"><Choice value="Blue"/></Choice>'
PLAIN = f'<View><Image name="i" value="$image"/><Taxonomy name="c" toName="i">{CHOICES}</Taxonomy></View>'
RED, BLUE = ["Warm", "Red"], ["Cold", "Blue"]
DAY = "2026-01-05T10:00:00Z"


def region(path: list[str], name: str = "c", image: str = "i") -> dict[str, Any]:
    return {"from_name": name, "to_name": image, "type": "taxonomy", "value": {"taxonomy": [path]}}


def task(id: int, data: object, *regions: object, day: str = DAY) -> dict[str, Any]:
    """Return a task that two people have labelled alike; text is the address of its image."""
    annotations = [
        {"id": 10 * id + n, "completed_by": n, "created_at": day, "updated_at": day, "result": list(regions)}
        for n in (1, 2)
    ]
    data = {"image": data} if isinstance(data, str) else data
    return {"id": id, "created_at": day, "data": data, "annotations": annotations}


@pytest.fixture
def words(tmp_path: Path) -> Any:
    """Returns the words of a command that imports these tasks with this labelling config."""

    def write(content: object, config: str = PLAIN, name: str = "export.json") -> list[object]:
        (tmp_path / "config.xml").write_text(config, encoding="utf-8")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        return ["import", tmp_path / name, "--project", "1", "--config", tmp_path / "config.xml"]

    return write


def labels(services: Services) -> dict[str, dict[str, list[list[str]]]]:
    documents = Services(services.settings).catalog.documents("1")
    return {document.projects["1"].uri: document.projects["1"].accepted for document in documents}


def test_images_whose_names_have_signs(run: Run, services: Services, words: Any) -> None:
    names = ["a#1", "a#2", "a?1", "a?2", "a&1", "a&2", "a b", "a%20b"]
    forms = ["azure-blob://p/{}.jpg", "s3://p/{}.jpg", "gs://p/{}.jpg"]
    addresses = [form.format(name) for form in forms for name in names]
    addresses += [f"/data/local-files/?d=x/{name}.jpg" for name in names[:-1]]
    addresses += [f"https://h/image?id={number}&signature=abc" for number in (1, 2)]
    wanted = {address: [RED, BLUE][number % 2] for number, address in enumerate(addresses)}
    tasks = [task(number, address, region(path)) for number, (address, path) in enumerate(wanted.items())]
    done = run_json(run, *words(tasks))
    assert (done["images"], done["labelled"]) == (len(addresses), len(addresses))
    assert labels(services) == {address: {"c": [path]} for address, path in wanted.items()}


def test_two_label_studios_that_count_from_one(run: Run, services: Services, words: Any) -> None:
    ours = [task(id, f"/data/upload/1/a{id}.jpg", region(RED)) for id in (1, 2, 3)]
    theirs = [task(id, f"/data/upload/1/b{id}.jpg", region(BLUE), day="2026-02-05T10:00:00Z") for id in (1, 2, 3)]
    assert run_json(run, *words(ours, name="ours/export.json"))["labelled"] == 3
    code, out, err = run(*words(theirs, name="theirs/export.json"))
    assert (code, out) == (2, "")
    assert "--source NAME" in err
    assert len(labels(services)) == 3
    assert run_json(run, *words(theirs, name="theirs/export.json"), "--source", "theirs")["labelled"] == 6
    assert sorted(map(str, labels(services).values())) == [str({"c": [BLUE]})] * 3 + [str({"c": [RED]})] * 3


def test_an_alias_that_was_added_later(run: Run, services: Services, words: Any) -> None:
    tasks = [task(1, "a.jpg", region(RED)), task(2, "b.jpg", region(["Warm", "r"]))]
    done = run_json(run, *words(tasks, PLAIN.replace('value="Red"', 'value="Red" alias="r"')))
    assert (done["labelled"], done["unknown_names"]) == (2, {})
    assert labels(services) == {uri: {"c": [["Warm", "r"]]} for uri in ("a.jpg", "b.jpg")}


def test_two_images_in_a_task(run: Run, services: Services, words: Any) -> None:
    parts = [f'<Image name="{n}" value="${n}"/><Taxonomy name="c{n}" toName="{n}">{CHOICES}</Taxonomy>' for n in "fb"]
    answers = region(BLUE, "cb", "b"), region(RED, "cf", "f")
    tasks = [task(1, {"f": "f.jpg", "b": "b.jpg"}, *answers), task(2, {"b": "only.jpg"}, *answers)]
    assert run_json(run, *words(tasks, f"<View>{''.join(parts)}</View>"))["labelled"] == 3
    assert labels(services) == {"f.jpg": {"cf": [RED]}, "b.jpg": {"cb": [BLUE]}, "only.jpg": {"cb": [BLUE]}}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (PLAIN.replace("<Image", '<Repeater on="$p"><Image').replace("</View>", "</Repeater></View>"), "<Repeater"),
        (PLAIN.replace('value="$image"', 'valueList="$image"'), 'valueList="$image"'),
    ],
)
def test_a_config_that_cannot_be_served(run: Run, services: Services, words: Any, config: str, reason: str) -> None:
    code, out, err = run(*words([task(1, "a.jpg", region(RED))], config))
    assert (code, out) == (2, "")
    assert reason in " ".join(err.split())
    assert labels(services) == {}


def test_an_image_that_a_template_names(run: Run, services: Services, words: Any) -> None:
    config = PLAIN.replace('value="$image"', 'value="https://x/$file"')
    assert run_json(run, *words([task(1, {"file": "a b.jpg"}, region(RED))], config))["labelled"] == 1
    assert labels(services) == {"https://x/a b.jpg": {"c": [RED]}}


@pytest.mark.parametrize(
    "odd",
    [
        {"from_name": "c", "to_name": "i", "type": "taxonomy"},
        region(RED) | {"value": None},
        region(RED) | {"value": {}},
        region([]),
        None,
        region(BLUE) | {"from_name": None},
    ],
)
def test_a_bad_region(run: Run, services: Services, words: Any, odd: object) -> None:
    command = words([task(1, "a.jpg", odd, region(RED)), task(2, "b.jpg", region(RED), odd), task(3, "c.jpg", odd)])
    assert "left out: 6 × region that cannot be read" in run(*command)[1]
    done = run_json(run, *command)
    assert (done["labelled"], done["unlabelled"]) == (2, {"unreadable": 1})
    assert labels(services) == {"a.jpg": {"c": [RED]}, "b.jpg": {"c": [RED]}, "c.jpg": {}}


def test_the_odd_value_of_another_control(run: Run, words: Any) -> None:
    odd = {"from_name": "box", "to_name": "i", "type": "rectangle", "value": {"x": None, "rotation": "left"}}
    done = run_json(run, *words([task(1, "a.jpg", odd, region(RED))]))
    assert (done["labelled"], done["left_out"]) == (1, 0)


def test_the_forms_of_an_export(run: Run, services: Services, words: Any, tmp_path: Path) -> None:
    """Completions, a folder of a target storage, and a file written by hand are taken; JSON-MIN names what to use."""
    old = task(1, "a.jpg", region(RED))
    old["completions"] = old.pop("annotations")
    assert run_json(run, *words([old], name="old.json"))["labelled"] == 1
    stored = task(1, "b.jpg", region(RED))
    annotations = stored.pop("annotations")
    for number, found in enumerate(annotations):
        command = words({**found, "task": stored}, name=f"storage/{number}")
    assert run_json(run, command[0], tmp_path / "storage", *command[2:])["labelled"] == 2
    by_hand = {"data": {"image": "c.jpg"}, "annotations": [{"completed_by": n, "result": [region(BLUE)]} for n in "ab"]}
    assert run_json(run, *words([by_hand], name="hand.json"))["labelled"] == 3
    kept = {"a.jpg": {"c": [RED]}, "b.jpg": {"c": [RED]}, "c.jpg": {"c": [BLUE]}}
    assert labels(services) == kept
    record = {"image": "d.jpg", "id": 1, "c": [{"taxonomy": [RED]}], "annotator": 1, "annotation_id": 5, "lead_time": 3}
    code, out, err = run(*words([record], name="min.json"))
    assert (code, out) == (2, "")
    assert "export JSON-MIN" in err
    assert "Export the project as JSON" in err
    assert labels(services) == kept
