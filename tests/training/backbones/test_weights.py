"""Weights from files."""

import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.spec import BackboneSpec


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder_q."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, resnet18: torch.nn.Module, prefix: str, suffix: str) -> None:
    state = {prefix + name: tensor for name, tensor in resnet18.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    built = build_backbone(BackboneSpec(weights=str(path)))
    assert built.origin == f"file {path.name}"
    for name, tensor in built.module.encoder.state_dict().items():
        assert torch.equal(tensor, resnet18.state_dict()[name]), name


def test_weights_of_another_architecture(tmp_path: Path, resnet18: torch.nn.Module) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(resnet18.state_dict(), path)
    with pytest.raises(TrainingError, match="do not fit"):
        build_backbone(BackboneSpec("resnet34", str(path)))


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    text, code = tmp_path / "notes.safetensors", tmp_path / "code.pth"
    text.write_text("no weights")
    torch.save({"run": logging.Formatter()}, code)
    for path in (text, code, tmp_path / "missing.pth"):
        with pytest.raises(TrainingError, match=path.name):
            build_backbone(BackboneSpec(weights=str(path)))
