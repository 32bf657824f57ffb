"""Start weights of a pre-training: those that are served, those that are requested, and the fallbacks."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.start_weights import with_start_weights
from taxonomist.backend.pretraining.state import PretrainRequest, StoppedError, read_run
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import FOLDER, publish_starter
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import ConfigError, DamagedError, TrainingError
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
    """The weights of a ResNet18 that is served."""
    state = build_backbone(BackboneSpec(weights="random", seed=3)).module.state_dict()
    with services.registry.stage(BACKBONE) as folder:
        (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(state))
        manifest = {"kind": "backbone", "architecture": "resnet18", "size": 32, "dimension": 512}
        return promoted(services, services.registry.publish(BACKBONE, folder, manifest))


def test_from_the_served_backbone(services: Services, trained: ModelVersion) -> None:
    weights = Path(with_start_weights(services, FROM_CHAMPION).weights)
    assert weights.name == "backbone-v1.safetensors"
    # It is a copy, so that a run which is resumed later does not depend on the version.
    assert weights.is_relative_to(services.settings.home / "pretraining")
    ours, theirs = read_weights(weights), read_weights(trained.path / WEIGHTS_FILE)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_damaged_weights_of_the_served_backbone_are_refused(services: Services, trained: ModelVersion) -> None:
    file = trained.path / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedError, match=WEIGHTS_FILE):
        with_start_weights(services, FROM_CHAMPION)


def test_from_the_starter_if_it_is_served(services: Services) -> None:
    promoted(services, publish_starter(services.registry, BACKBONE))
    recipe = with_start_weights(services, FROM_CHAMPION)
    assert (recipe.architecture, Path(recipe.weights).name) == ("efficientnet_lite0", "backbone-v1.safetensors")


def test_the_start_weights_decide_the_architecture(services: Services, tmp_path: Path) -> None:
    file = tmp_path / "lite0.safetensors"
    file.write_bytes((FOLDER / WEIGHTS_FILE).read_bytes())
    for weights in ("starter", str(file)):
        assert with_start_weights(services, Recipe(weights=weights)).architecture == "efficientnet_lite0"
    services.settings.backbone = "resnet18"
    with pytest.raises(TrainingError, match="do not fit"):
        with_start_weights(services, Recipe(weights=str(file)))


@pytest.mark.usefixtures("trained")
def test_the_served_backbone_has_another_architecture_than_the_setting(services: Services) -> None:
    services.settings.backbone = "resnet34"
    with pytest.raises(ConfigError, match="a resnet34 cannot start from its weights") as raised:
        with_start_weights(services, replace(FROM_CHAMPION, architecture="resnet34"))
    assert "--weights" in (raised.value.hint or "")


def test_the_served_backbone_is_an_onnx_file_alone(services: Services) -> None:
    """Like the starter of an earlier release."""
    with services.registry.stage(BACKBONE) as folder:
        (folder / BACKBONE_FILE).write_bytes(b"a network")
        manifest = {"kind": "backbone", "architecture": "resnet18", "size": 80, "dimension": 512, "starter": True}
        promoted(services, services.registry.publish(BACKBONE, folder, manifest))
    with pytest.raises(ConfigError, match="v1, is an ONNX file without weights") as raised:
        with_start_weights(services, FROM_CHAMPION)
    assert "--weights" in (raised.value.hint or "")
    assert with_start_weights(services, Recipe(weights="starter")).weights == "starter"


def test_nothing_is_served_yet(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        recipe = with_start_weights(services, FROM_CHAMPION)
    assert (recipe.architecture, recipe.weights) == ("efficientnet_lite0", "auto")
    assert "start weights: ImageNet, as the starter" in caplog.text


def test_from_a_file(services: Services, trained: ModelVersion, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(read_weights(trained.path / WEIGHTS_FILE), file)
    weights = Path(with_start_weights(services, Recipe(weights=str(file))).weights)
    file.unlink()
    assert with_start_weights(services, Recipe(weights=str(weights))).weights == str(weights)  # the copy is a file, too
    assert [path.name for path in weights.parent.iterdir()] == ["mine.pth"]
    assert len(read_weights(weights)) == 122 - 2  # a ResNet18 without its last layer


def test_missing_weights_are_an_error_before_anything_is_done(services: Services, tmp_path: Path) -> None:
    for wrong in ("champoin", str(tmp_path)):
        with pytest.raises(ConfigError, match="no start weights"):
            run(services, PretrainRequest(weights=wrong), lambda step, share: None, lambda: False)
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="weights file "):
        run(services, PretrainRequest(weights=str(tmp_path / "other.pth")), lambda step, share: None, lambda: False)
    assert read_run(services.settings.home) is None


def test_our_presets_start_from_the_served_backbone_and_a_setting_overrides_them(
    services: Services, trained: ModelVersion
) -> None:
    def begin(**options: str) -> str:
        with pytest.raises(StoppedError):
            run(services, PretrainRequest(resume=False, **options), lambda step, share: None, lambda: True)  # type: ignore[arg-type]
        begun = read_run(services.settings.home)
        assert begun is not None
        return f"{begun.weights}: {Path(begun.recipe['weights']).name}"

    assert begin(preset="default") == begin(preset="cpu") == "champion: backbone-v1.safetensors"
    assert begin(preset="thesis") == begin(preset="default", weights="random") == "random: random"
    services.settings.pretrain_weights = "starter"
    assert begin(preset="cpu") == "starter: starter"
    assert PRESETS["thesis"].weights == "random"


def test_a_network_of_timm_that_is_served_is_pretrained_unless_it_takes_one_size(services: Services) -> None:
    for name in ("timm:test_efficientnet", "timm:test_vit"):
        state = build_backbone(BackboneSpec(name, "random", size=160)).module.state_dict()
        with services.registry.stage(BACKBONE) as folder:
            (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(state))
            manifest = {"kind": "backbone", "architecture": name, "size": 160, "dimension": 64}
            promoted(services, services.registry.publish(BACKBONE, folder, manifest))
        if name == "timm:test_efficientnet":
            assert with_start_weights(services, FROM_CHAMPION).architecture == name
    with pytest.raises(ConfigError, match="timm:test_vit takes images of one size only"):
        with_start_weights(services, FROM_CHAMPION)
