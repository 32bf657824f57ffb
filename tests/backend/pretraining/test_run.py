"""The whole job on small data: by the preset that takes seconds, stopped, gone on with, and where it cannot go on."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from taxonomist.backend.pretraining.dataset import Chosen, choose, groups_of, pictures_of, probe_of
from taxonomist.backend.pretraining.prepared_images import picture_store, prepare_all, serving_size
from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import Asked, Run, StoppedError, is_running, only_one, read_run, write_run
from taxonomist.backend.services import Services
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError, TrainingError
from taxonomist.training.pretraining.recipe import PRESETS
from tests.present import present
from tests.small_world import SIZE

SMOKE = Asked(preset="smoke", device="cpu")


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


# --- what it does


@pytest.mark.slow
def test_all_steps_with_a_stop_in_each(poor: Services) -> None:
    told: list[tuple[str, float]] = []

    def stop_at(text: str) -> None:
        seen = len(told)
        with pytest.raises(StoppedError):
            run(poor, SMOKE, lambda *step: told.append(step), lambda: any(text in step for step, _ in told[seen:]))

    stop_at("preparing picture 0")
    assert present(read_run(poor.settings.home)).step == "prepare"
    stop_at("preparing picture 80")
    assert present(read_run(poor.settings.home)).step == "pretrain"
    stop_at("embedding")
    current = present(read_run(poor.settings.home))
    assert (current.step, current.version, current.documents, current.seen) == ("adopt", "v2", 80, 80)
    assert poor.registry.champions() == {"backbone": "v1", "project-7": "v1"}
    outcome = run(poor, SMOKE, lambda *step: told.append(step), never)
    assert outcome.startswith("Backbone v2 ")
    assert present(read_run(poor.settings.home)).outcome == outcome
    assert [version.version for version in poor.registry.versions("backbone")] == ["v1", "v2"]
    manifest = poor.registry.get("backbone", "v2").backbone_manifest
    assert manifest.pretraining is not None
    assert manifest.pretraining.data is not None
    assert (manifest.size, manifest.pretraining.data.count) == (SIZE, 80)
    assert manifest.pretraining.score is not None
    assert all(0 <= share <= 1 for _, share in told)
    # Another one with the same recipe and pictures is another run.
    assert "v3 is a candidate" in run(poor, Asked(preset="smoke", device="cpu", adopt=False), silent, never)


def test_too_few_pictures_end_it_and_the_next_begins_anew(services: Services) -> None:
    with pytest.raises(TrainingError, match="0 images are too few"):
        run(services, SMOKE, silent, never)
    assert present(read_run(services.settings.home)).step == "failed"
    with pytest.raises(NotFoundError, match="no unfinished"):
        run(services, Asked(resume=True), silent, never)


def test_goes_on_with_an_unfinished_one(unfinished: Services, better: ModelVersion) -> None:
    outcome = run(unfinished, Asked(), silent, never)
    assert outcome.startswith("Backbone v2 is served now")
    assert present(read_run(unfinished.settings.home)).step == "done"


@pytest.mark.parametrize(
    "other",
    [Asked(preset="thesis"), Asked(epochs=5), Asked(weights="starter"), Asked(preset="thesis", resume=True)],
)
def test_does_not_take_another_one_for_it(unfinished: Services, other: Asked) -> None:
    with pytest.raises(ConfigError, match="preset smoke over 3 epochs from the weights random is not finished"):
        run(unfinished, other, silent, never)
    assert present(read_run(unfinished.settings.home)).step == "adopt"


def test_gives_it_up_when_told_so(unfinished: Services) -> None:
    with pytest.raises(StoppedError):
        run(unfinished, Asked(preset="smoke", resume=False), silent, lambda: True)
    current = present(read_run(unfinished.settings.home))
    assert (current.step, current.recipe["epochs"], current.seen) == ("prepare", PRESETS["smoke"].epochs, 0)


def test_what_it_had_published_is_gone(unfinished: Services) -> None:
    with pytest.raises(NotFoundError):
        run(unfinished, Asked(), silent, never)
    assert present(read_run(unfinished.settings.home)).step == "failed"


def test_an_unknown_preset_is_told(poor: Services) -> None:
    with pytest.raises(ConfigError, match=r"no preset 'best'.*default, cpu, thesis"):
        run(poor, Asked(preset="best"), silent, never)


def test_a_damaged_state_is_told(poor: Services) -> None:
    write_run(poor.settings.home, Run(preset="smoke", recipe={}, size=32))
    (poor.settings.home / "pretraining" / "run.json").write_text('{"preset": ')
    with pytest.raises(DamagedError, match="Delete it"):
        run(poor, SMOKE, silent, never)


def test_only_one_at_a_time(poor: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxonomist.backend.pretraining.state.PATIENCE_S", 0.1)
    home = poor.settings.home
    with only_one(home):
        assert is_running(home)
        with pytest.raises(ConfigError, match="running already"), only_one(home):
            pass
    assert not is_running(home)
    with only_one(home):
        pass


def test_the_size_is_that_of_what_is_served(poor: Services) -> None:
    assert serving_size(poor) == SIZE
    assert serving_size(Services(poor.settings.model_copy(update={"image_size": 96}))) == 96


def test_without_a_backbone_it_is_the_default(services: Services) -> None:
    assert serving_size(services) == 160


# --- what it sees


def test_the_pictures_are_those_wanted_today(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = picture_store(poor, SIZE)
    ids = store.snapshot()[0]
    blurred = ids[3]
    poor.catalog.update(blurred, lambda document: document.model_copy(update={"is_blurred": True}))
    chosen = choose(poor, store, grouped=True)
    assert chosen.ids == [id for id in ids if id != blurred]
    pictures, rows = pictures_of(store, chosen.ids)
    np.testing.assert_array_equal(pictures[rows], store.get(chosen.ids)[1])
    assert len(set(present(groups_of(chosen)).tolist())) == 79  # each picture is a product of its own
    assert isinstance(pictures.base, np.memmap) or isinstance(pictures, np.memmap)  # nothing was copied


def test_what_comes_later_does_not_change_a_run(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = picture_store(poor, SIZE)
    chosen = choose(poor, store, grouped=False)
    pictures, rows = pictures_of(store, chosen.ids)
    before = pictures[rows]
    store.append(["another"], np.zeros((1, SIZE, SIZE, 3), np.uint8))
    pictures, rows = pictures_of(store, chosen.ids)
    np.testing.assert_array_equal(pictures[rows], before)
    assert groups_of(chosen) is None


def test_groups_are_numbered_and_those_without_are_not() -> None:
    chosen = Chosen(ids=["a", "b", "c", "d"], groups=["p2", None, "p1", "p2"])
    assert present(groups_of(chosen)).tolist() == [1, -1, 0, 1]
    assert groups_of(Chosen(ids=["a"], groups=[None])) is None


def test_the_probe_is_labelled_and_never_of_the_test_part(poor: Services) -> None:
    prepare_all(poor, SIZE)
    store = picture_store(poor, SIZE)
    chosen = choose(poor, store, grouped=False)
    documents = {document.id: document for document in poor.catalog.documents("7")}
    tested = {id for id, document in documents.items() if document.projects["7"].part == "test"}
    assert {each.id for each in chosen.probe} == documents.keys() - tested
    assert tested
    probe = present(probe_of(chosen, store))
    assert probe.images.shape == (len(chosen.probe), SIZE, SIZE, 3)
    assert sorted(set(probe.labels.tolist())) == [0, 1, 2, 3]
    assert len(set(probe.groups.tolist())) == len(chosen.probe)


def test_no_probe_of_too_few(poor: Services) -> None:
    store = picture_store(poor, SIZE)
    assert choose(poor, store, grouped=False).probe == []
    assert probe_of(Chosen(ids=[]), store) is None
