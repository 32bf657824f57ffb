"""The whole job on small data, with the preset that takes seconds: stopped, resumed, and runs that do not resume."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taxonomist.backend.pretraining.dataset import (
    RunData,
    build_probe,
    choose_images,
    group_numbers,
    images_and_rows,
    is_held_out,
    read_data,
    write_data,
)
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store, serving_size
from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import (
    PretrainRequest,
    Run,
    StoppedError,
    differences,
    exclusive_pretraining,
    is_running,
    pretraining_folder,
    read_run,
    write_run,
)
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError, TrainingError
from taxonomist.training.pretraining.recipe import PRESETS
from tests.present import present
from tests.small_world import CONFIG, SIZE

SMOKE = PretrainRequest(preset="smoke", device="cpu")


def silent(step: str, share: float) -> None: ...


def never() -> bool:
    return False


@pytest.fixture
def unfinished(poor: Services) -> Services:
    """A run that was stopped after its backbone had been published."""
    recipe = {**asdict(PRESETS["smoke"]), "epochs": 3}
    write_run(
        poor.settings.home, Run(preset="smoke", recipe=recipe, size=SIZE, step="adopt", documents=80, version="v2")
    )
    return poor


# --- the steps


@pytest.mark.slow
def test_all_steps_with_a_stop_in_each(poor: Services) -> None:
    steps: list[tuple[str, float]] = []

    def stop_at(text: str) -> None:
        seen = len(steps)
        with pytest.raises(StoppedError):
            run(poor, SMOKE, lambda *step: steps.append(step), lambda: any(text in step for step, _ in steps[seen:]))

    stop_at("preparing image 0")
    assert present(read_run(poor.settings.home)).step == "prepare"
    stop_at("preparing image 80")
    assert present(read_run(poor.settings.home)).step == "pretrain"
    stop_at("embedding")
    current = present(read_run(poor.settings.home))
    assert (current.step, current.version, current.documents, current.seen) == ("adopt", "v2", 80, 80)
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    outcome = run(poor, SMOKE, lambda *step: steps.append(step), never)
    assert outcome.startswith("Backbone v2 ")
    assert present(read_run(poor.settings.home)).outcome == outcome
    assert [version.version for version in poor.registry.versions("backbone")] == ["v1", "v2"]
    manifest = poor.registry.get("backbone", "v2").backbone_manifest
    assert manifest.pretraining is not None
    assert manifest.pretraining.data is not None
    tested = sum(document.projects["7"].part == "test" for document in poor.catalog.documents())
    assert tested
    assert (manifest.size, manifest.pretraining.data.count) == (SIZE, 80 - tested)
    assert all(0 <= share <= 1 for _, share in steps)
    # A second run with the same recipe and images is a new run.
    assert "v3 is a candidate" in run(poor, PretrainRequest(preset="smoke", device="cpu", adopt=False), silent, never)


def test_too_few_images_end_a_run_and_the_next_one_is_new(services: Services) -> None:
    with pytest.raises(TrainingError, match="0 images are too few"):
        run(services, SMOKE, silent, never)
    assert present(read_run(services.settings.home)).step == "failed"
    with pytest.raises(NotFoundError, match="no unfinished"):
        run(services, PretrainRequest(resume=True), silent, never)


def test_resumes_an_unfinished_run(unfinished: Services, better: ModelVersion) -> None:
    outcome = run(unfinished, PretrainRequest(), silent, never)
    assert outcome.startswith("Backbone v2 is served now")
    assert present(read_run(unfinished.settings.home)).step == "done"


@pytest.mark.parametrize(
    "other",
    [
        PretrainRequest(preset="thesis"),
        PretrainRequest(epochs=5),
        PretrainRequest(weights="starter"),
        PretrainRequest(preset="thesis", resume=True),
    ],
)
def test_does_not_resume_a_run_with_other_options(unfinished: Services, other: PretrainRequest) -> None:
    with pytest.raises(ConfigError, match="preset smoke over 3 epochs from the weights random is not finished"):
        run(unfinished, other, silent, never)
    assert present(read_run(unfinished.settings.home)).step == "adopt"


def test_discards_an_unfinished_run_on_request(unfinished: Services) -> None:
    with pytest.raises(StoppedError):
        run(unfinished, PretrainRequest(preset="smoke", resume=False), silent, lambda: True)
    current = present(read_run(unfinished.settings.home))
    assert (current.step, current.recipe["epochs"], current.seen) == ("prepare", PRESETS["smoke"].epochs, 0)


def test_the_published_version_is_missing(unfinished: Services) -> None:
    with pytest.raises(NotFoundError):
        run(unfinished, PretrainRequest(), silent, never)
    assert present(read_run(unfinished.settings.home)).step == "failed"


def test_an_unknown_preset_is_an_error(poor: Services) -> None:
    with pytest.raises(ConfigError, match=r"no preset 'best'.*default, cpu, thesis"):
        run(poor, PretrainRequest(preset="best"), silent, never)


def test_a_damaged_state_is_an_error(poor: Services) -> None:
    write_run(poor.settings.home, Run(preset="smoke", recipe={}, size=32))
    (poor.settings.home / "pretraining" / "run.json").write_text('{"preset": ')
    with pytest.raises(DamagedError, match="Delete it"):
        run(poor, SMOKE, silent, never)


def test_only_one_at_a_time(poor: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.backend.pretraining.state.LOCK_TIMEOUT_S", 0.1)
    home = poor.settings.home
    with exclusive_pretraining(home):
        assert is_running(home)
        with pytest.raises(ConfigError, match="running already"), exclusive_pretraining(home):
            pass
    assert not is_running(home)
    with exclusive_pretraining(home):
        pass


def test_the_size_is_that_of_the_served_backbone(poor: Services) -> None:
    assert serving_size(poor) == SIZE
    assert serving_size(Services(poor.settings.model_copy(update={"image_size": 96}))) == 96


def test_without_a_backbone_the_size_is_the_default(services: Services) -> None:
    assert serving_size(services) == 160


# --- the data


def test_the_images_are_those_wanted_today(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = prepared_image_store(poor, SIZE)
    ids = store.snapshot()[0]
    blurred = ids[3]
    poor.catalog.update(blurred, lambda document: document.model_copy(update={"is_blurred": True}))
    data = choose_images(poor, store, grouped=True)
    tested = {document.id for document in poor.catalog.documents() if document.projects["7"].part == "test"}
    assert data.ids == [id for id in ids if id != blurred and id not in tested]
    images, rows = images_and_rows(store, data.ids)
    np.testing.assert_array_equal(images[rows], store.get(data.ids)[1])
    assert len(set(present(group_numbers(data)).tolist())) == len(data.ids)  # each image is a product of its own
    assert isinstance(images.base, np.memmap) or isinstance(images, np.memmap)  # nothing was copied


def test_later_images_do_not_change_a_run(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = prepared_image_store(poor, SIZE)
    data = choose_images(poor, store, grouped=False)
    images, rows = images_and_rows(store, data.ids)
    before = images[rows]
    store.append(["another"], np.zeros((1, SIZE, SIZE, 3), np.uint8))
    images, rows = images_and_rows(store, data.ids)
    np.testing.assert_array_equal(images[rows], before)
    assert group_numbers(data) is None


def test_groups_are_numbered_and_those_without_are_not() -> None:
    data = RunData(ids=["a", "b", "c", "d"], groups=["p2", None, "p1", "p2"])
    assert present(group_numbers(data)).tolist() == [1, -1, 0, 1]
    assert group_numbers(RunData(ids=["a"], groups=[None])) is None


def test_nothing_is_held_out_of_too_few_images(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = prepared_image_store(poor, SIZE)
    data = choose_images(poor, store, grouped=False)
    assert any(is_held_out(present(document.product("7"))) for document in poor.catalog.documents())
    assert (data.probe, data.held_out) == ([], 0)
    assert build_probe(data, store) is None


def test_state_with_the_former_names_is_read(poor: Services) -> None:
    home = poor.settings.home
    old_run = {"preset": "cpu", "recipe": {}, "size": 80, "step": "pretrain", "pictures": "/data/set"}
    (pretraining_folder(home) / "run.json").write_text(json.dumps(old_run))
    (pretraining_folder(home) / "pictures.json").write_text(RunData(ids=["a"]).model_dump_json())
    run = present(read_run(home))
    assert run.prepared == Path("/data/set")
    assert read_data(home) == RunData(ids=["a"])
    write_run(home, run)
    write_data(home, RunData(ids=["b"]))
    assert present(read_run(home)) == run
    assert "pictures" not in json.loads((pretraining_folder(home) / "run.json").read_text())
    assert read_data(home) == RunData(ids=["b"])


# --- what differs when a run is resumed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 96}, "images of a side in pixels of 32, not 96 as TAXONOMIST_IMAGE_SIZE says now"),
        ({"backbone": "resnet34"}, "the architecture resnet18, not resnet34 as TAXONOMIST_BACKBONE says now"),
        ({"pretrain_weights": "starter"}, "the start weights random, not starter as TAXONOMIST_PRETRAIN_WEIGHTS"),
        ({"pretrain_preset": "cpu"}, "the preset smoke, not cpu as TAXONOMIST_PRETRAIN_PRESET says now"),
        ({}, ""),
    ],
)
def test_a_resumed_run_says_what_differs(
    unfinished: Services, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str
) -> None:
    services = Services(Settings(**{**unfinished.settings.model_dump(exclude_unset=True), **changes}))
    run(services, PretrainRequest(adopt=False), silent, never)
    warnings = [line for line in caplog.messages if "that is resumed has" in line]
    assert len(warnings) == bool(said)
    assert all(said in line and "--fresh" in line for line in warnings)
    assert present(read_run(services.settings.home)).size == SIZE


def test_an_image_size_that_is_unset_again_differs_too(unfinished: Services) -> None:
    current = present(read_run(unfinished.settings.home)).model_copy(update={"size": 64})
    assert "64, not 32 as TAXONOMIST_IMAGE_SIZE says now" in next(differences(unfinished.settings, current))


@pytest.mark.slow
def test_the_outcome_says_the_number_format(poor: Services) -> None:
    request = PretrainRequest(preset="smoke", epochs=1, device="cpu", precision="32", adopt=False)
    assert run(poor, request, silent, never).endswith("The number format of its training was 32-true.")
    assert present(read_run(poor.settings.home)).precision == "32-true"


def test_images_that_cannot_be_prepared_are_the_reason(services: Services) -> None:
    labels = ProjectLabels(uri="/nowhere/a.jpg")
    services.projects.update("7", label_config=CONFIG)
    services.catalog.update("a", lambda document: document.in_project("7", labels))
    with pytest.raises(TrainingError, match="None of the 1 images could be prepared"):
        run(services, SMOKE, silent, never)
