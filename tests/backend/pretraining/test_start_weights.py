"""What a pre-training starts from: what is served, what was asked for, and what there is instead."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.start_weights import with_start
from taxonomist.backend.pretraining.state import Asked, StoppedError, read_run
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.starter import publish_starter
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.export import WEIGHTS_FILE
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import read_weights
from taxonomist.training.pretraining.recipe import PRESETS, Recipe

FROM_CHAMPION = Recipe(weights="champion")


def promoted(services: Services, version: ModelVersion) -> ModelVersion:
    services.registry.promote(BACKBONE, version.version)
    return version


@pytest.fixture
def trained(services: Services) -> ModelVersion:
    """A ResNet18 that is served, as far as its weights go."""
    state = build_backbone(BackboneSpec(weights="random", seed=3)).module.state_dict()
    with services.registry.stage(BACKBONE) as folder:
        (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(state))
        manifest = {"kind": "backbone", "architecture": "resnet18", "size": 32, "dimension": 512}
        return promoted(services, services.registry.publish(BACKBONE, folder, manifest))


@pytest.fixture
def no_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def test_from_what_is_served(services: Services, trained: ModelVersion) -> None:
    weights = Path(with_start(services, FROM_CHAMPION).weights)
    assert weights.name == "backbone-v1.safetensors"
    # It is a copy: what becomes of the version does not matter to a run that goes on next week.
    assert weights.is_relative_to(services.settings.home / "pretraining")
    ours, theirs = read_weights(weights), read_weights(trained.path / WEIGHTS_FILE)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_from_the_starter_where_that_is_served(services: Services) -> None:
    promoted(services, publish_starter(services.registry, BACKBONE))
    assert with_start(services, FROM_CHAMPION).weights == "starter"


@pytest.mark.usefixtures("no_imagenet")
def test_what_is_served_is_of_another_architecture(
    services: Services, trained: ModelVersion, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert with_start(services, replace(FROM_CHAMPION, architecture="resnet34")).weights == "auto"
    assert "the start weights: random, seed 0" in caplog.text


@pytest.mark.usefixtures("no_imagenet")
def test_nothing_is_served_yet(services: Services) -> None:
    assert with_start(services, FROM_CHAMPION).weights == "auto"


def test_from_a_file(services: Services, trained: ModelVersion, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(read_weights(trained.path / WEIGHTS_FILE), file)
    weights = Path(with_start(services, Recipe(weights=str(file))).weights)
    file.unlink()
    assert with_start(services, Recipe(weights=str(weights))).weights == str(weights)  # the copy is a file, too
    assert [path.name for path in weights.parent.iterdir()] == ["mine.pth"]
    assert len(read_weights(weights)) == 122 - 2  # a ResNet18 without its last layer


def test_a_file_that_is_none_is_told_before_anything_is_done(services: Services, tmp_path: Path) -> None:
    for wrong in ("champoin", str(tmp_path)):
        with pytest.raises(ConfigError, match="no start weights"):
            run(services, Asked(weights=wrong), lambda step, share: None, lambda: False)
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="weights file "):
        run(services, Asked(weights=str(tmp_path / "other.pth")), lambda step, share: None, lambda: False)
    assert read_run(services.settings.home) is None


def test_the_presets_of_our_own_start_from_it_and_a_setting_overrides_them(
    services: Services, trained: ModelVersion
) -> None:
    def begin(**asked: str) -> str:
        with pytest.raises(StoppedError):
            run(services, Asked(resume=False, **asked), lambda step, share: None, lambda: True)  # type: ignore[arg-type]
        begun = read_run(services.settings.home)
        assert begun is not None
        return f"{begun.weights}: {Path(begun.recipe['weights']).name}"

    assert begin(preset="default") == begin(preset="cpu") == "champion: backbone-v1.safetensors"
    assert begin(preset="thesis") == begin(preset="default", weights="random") == "random: random"
    services.settings.pretrain_weights = "starter"
    assert begin(preset="cpu") == "starter: starter"
    assert PRESETS["thesis"].weights == "random"
