"""Start weights."""

import logging
from pathlib import Path

import pytest
import torch

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.backbones import build
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from tests.training.backbones.conftest import FILE_NAME


def first_weights(encoder: torch.nn.Module) -> torch.Tensor:
    return encoder.get_parameter("conv1.weight")


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_backbone(BackboneSpec(weights="random", seed=seed)).module.encoder for seed in (1, 1, 2))
    assert torch.equal(first_weights(one), first_weights(same))
    assert not torch.equal(first_weights(one), first_weights(other))
    assert torch.equal(torch.get_rng_state(), before)


def test_imagenet_is_the_file_in_torchs_cache(empty_cache: Path, resnet18: torch.nn.Module) -> None:
    torch.save(resnet18.state_dict(), empty_cache / FILE_NAME)
    built = build_backbone(BackboneSpec(weights="imagenet"))
    assert built.origin == "torchvision ImageNet"
    assert torch.equal(first_weights(built.module.encoder), first_weights(resnet18))


def test_auto_downloads_nothing_and_is_random_with_one_warning(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "imagenet_weights", None)
    with caplog.at_level(logging.WARNING):
        built = build_backbone(BackboneSpec(weights="auto", seed=3))
    assert built.origin == "random, seed 3"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "random weights" in caplog.text


def test_imagenet_without_network_is_an_error(empty_cache: Path) -> None:
    with pytest.raises(TrainingError, match="are not available"):
        build_backbone(BackboneSpec(weights="imagenet"))


def test_a_damaged_file_of_imagenet_is_an_error(empty_cache: Path) -> None:
    (empty_cache / FILE_NAME).write_bytes(b"half a download")
    with pytest.raises(TrainingError, match=FILE_NAME):
        build_backbone(BackboneSpec(weights="imagenet"))
