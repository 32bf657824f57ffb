"""A home of the first release (0.1.0) opens, answers as 0.1.0 did, and can be worked on; its command lines still run.

`tests/data/make_old_home.py` describes the home and the recorded answers, and made both with the code of 0.1.0.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.cli import main, options
from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store
from taxonomist.backend.pretraining.state import read_run
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.web.app import create_app
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.command_line import check
from tests.homes import DATA
from tests.present import present

RECORDED: dict[str, Any] = json.loads((DATA / "home-0.1.0.json").read_text(encoding="utf-8"))
MADE_AT: str = RECORDED["made_at"]

Run = Callable[..., Any]


def unpack(folder: Path) -> Path:
    """Unpack the home with its catalogue of images into a folder, and return the home."""
    with tarfile.open(DATA / "home-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    record = folder / "home" / "projects" / "7.json"
    record.write_text(record.read_text(encoding="utf-8").replace(MADE_AT, str(folder)), encoding="utf-8")
    with contextlib.closing(sqlite3.connect(folder / "home" / "catalog.sqlite")) as catalog, catalog:
        catalog.execute("UPDATE documents SET body = replace(body, ?, ?)", (MADE_AT, str(folder)))
    return folder / "home"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return unpack(tmp_path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """The home for tests that only read it."""
    return Services(Settings(home=unpack(tmp_path_factory.mktemp("unchanged"))))


@pytest.fixture
def services(home: Path) -> Services:
    return Services(Settings(home=home, head_epochs=2, views=1))


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `taxonomist … --json` on the home and returns the printed object."""

    def command(*arguments: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["taxonomist", "--home", str(home), *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        printed, errors = capsys.readouterr()
        assert not end.value.code, errors
        return json.loads(printed)

    return command


def assert_holds(found: Any, recorded: Any, where: str = "") -> None:
    """Every key that 0.1.0 printed has the same value today; there may be more keys."""
    if isinstance(recorded, dict):
        assert isinstance(found, dict), where
        assert recorded.keys() <= found.keys(), where
        for key, value in recorded.items():
            assert_holds(found[key], value, f"{where}.{key}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for number, (ours, theirs) in enumerate(zip(found, recorded, strict=True)):
            assert_holds(ours, theirs, f"{where}[{number}]")
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, abs=1e-6), where
    else:
        assert found == recorded, where


def moved(recorded: Any, home: Path) -> Any:
    """Return recorded values with today's folder in their addresses."""
    return json.loads(json.dumps(recorded).replace(MADE_AT, str(home.parent)))


def test_predictions_are_those_of_the_first_release(services: Services) -> None:
    client = create_app(services.settings, services).test_client()
    request = RECORDED["predict"]["request"]
    # PretrainRequest by their first addresses, images have the ids that their embeddings are kept under.
    known = {**request, "tasks": request["tasks"][:-1]}
    results = RECORDED["predict"]["answer"]["results"]
    assert sum(len(result["result"]) for result in results[:-1]) >= 2
    assert client.post("/predict", json=known).get_json() == {"results": results[:-1]}
    # One that is not in the home is read from the catalogue's folder, which lies elsewhere now.
    unseen = {**request, "tasks": moved(request["tasks"][-1:], services.settings.home)}
    (answer,) = client.post("/predict", json=unseen).get_json()["results"]
    assert answer["score"] == results[-1]["score"]
    assert [region["value"] for region in answer["result"]] == [region["value"] for region in results[-1]["result"]]


def test_label_studio_is_told_the_same_version(services: Services) -> None:
    client = create_app(services.settings, services).test_client()
    body = {"project": RECORDED["predict"]["request"]["project"], "schema": RECORDED["label_config"]}
    assert_holds(client.post("/setup", json=body).get_json(), RECORDED["setup"])


def labels_of(services: Services) -> dict[str, Any]:
    fields = {"accepted", "reason", "detail", "decided_by", "group", "part"}
    return {
        document.id: document.projects["7"].model_dump(mode="json", include=fields)
        for document in services.catalog.documents("7")
    }


def test_labels_and_reasons_are_the_same_also_when_they_are_decided_anew(services: Services) -> None:
    assert labels_of(services) == RECORDED["labels"]
    assert {label["reason"] for label in RECORDED["labels"].values()} == {None, "no_agreement", "too_few_annotators"}
    services.projects.update("7", decided_with="another rule")
    decide_anew(services, "7")
    # The sentence beside a reason may have changed its words; what was decided has not.
    assert without_detail(labels_of(services)) == without_detail(RECORDED["labels"])


def without_detail(labels: dict[str, Any]) -> dict[str, Any]:
    return {id: {key: value for key, value in label.items() if key != "detail"} for id, label in labels.items()}


def test_look_alikes_are_the_same(run: Run, home: Path) -> None:
    image = home.parent / "catalogue" / "images" / "unseen.jpg"
    assert_holds(run("similar", image, "--project", "7", "-k", "5"), moved(RECORDED["similar"], home))


def test_models_and_backbones_are_listed(run: Run, home: Path) -> None:
    assert_holds(run("models", "list", "--project", "7"), RECORDED["models"])
    assert_holds(run("models", "show", "v2", "--project", "7"), moved(RECORDED["model"], home))
    assert_holds(run("backbone", "list"), RECORDED["backbones"])


def test_its_model_is_as_good_as_it_was(run: Run, home: Path) -> None:
    """0.1.0 mixed images that the model has learned from with others; today they are scored apart."""
    manifest = home.parent / "catalogue" / "manifest.csv"
    found, recorded = run("evaluate", "--project", "7", "--manifest", manifest), moved(RECORDED["evaluation"], home)
    learned = found["learned_from"]
    assert (found["images"], learned["images"]) == (6, 18)
    assert found["images"] + learned["images"] == recorded["images"]
    same = ("project", "model_version", "backbone", "manifest", "unreadable", "outside_taxonomy")
    assert {name: found[name] for name in same} == {name: recorded[name] for name in same}
    for level, (ours, theirs) in enumerate(zip(found["levels"], learned["levels"], strict=True)):
        right = ours["accuracy"] * ours["images"] + theirs["accuracy"] * theirs["images"]
        expected = recorded["levels"][level]
        assert ours["images"] + theirs["images"] == expected["images"]
        assert right / expected["images"] == pytest.approx(expected["accuracy"])


def test_prepared_images_and_a_finished_pretraining_are_found(services: Services) -> None:
    finished = present(read_run(services.settings.home))
    assert (finished.step, finished.version, finished.documents) == ("done", "v1", 24)
    store = prepared_image_store(services, 32)
    assert len(store) == 24
    assert prepare_all(services, 32).new == 0


def test_its_jobs_are_known(services: Services) -> None:
    jobs = services.jobs.latest("7")
    assert [(job.kind, job.state) for job in jobs] == [(JobKind.EMBED, JobState.WAITING)]


@pytest.mark.slow
def test_training_and_a_rollback_work(run: Run, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_HEAD_EPOCHS", "2")
    assert services.registry.champion(BACKBONE) == "v1"
    trained = run("train", "--project", "7")
    assert (trained["version"], trained["labels"]) == ("v3", 22)
    services.registry.promote("project-7", "v1")
    services.registry.rollback("project-7")
    versions = run("models", "list", "--project", "7")
    assert [version["version"] for version in versions] == ["v1", "v2", "v3"]
    assert [version["version"] for version in versions if version["champion"]] == [
        "v3" if trained["champion"] else "v2"
    ]


@pytest.mark.parametrize("line", RECORDED["command_lines"], ids=" ".join)
def test_every_command_line_is_still_understood(
    line: list[str], unchanged: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "check_known", lambda services, project: None)  # their project is "value"
    check(line, unchanged)


@pytest.mark.parametrize("name", RECORDED["settings"])
def test_every_setting_is_still_known(name: str, tmp_path: Path) -> None:
    """The old default is accepted under the old name; without a default, only the name is checked."""
    default = RECORDED["settings"][name]
    text = json.dumps("no such value" if default is None else default)
    (tmp_path / "taxonomist.toml").write_text(f"{name} = {text}\n", encoding="utf-8")
    complaint = ""
    try:
        load_settings()
    except ConfigError as error:
        complaint = str(error)
    assert "There is no setting" not in complaint
    assert not complaint or default is None
