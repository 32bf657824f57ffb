"""Backbones in the registry."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.publish import ensure_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import load_weights, read_weights
from tests.training.conftest import SIZE, SPEC


def test_version_is_complete(backbone: ModelVersion, backbone_registry: FolderRegistry) -> None:
    manifest = backbone.backbone_manifest
    assert {"backbone.onnx", "backbone.safetensors"} == set(backbone.files)
    assert (manifest.dimension, manifest.size) == (512, SIZE)
    assert manifest.origin == "random, seed 0"
    backbone_registry.verify(backbone)
    reread = Backbone("resnet18")
    load_weights(reread.encoder, read_weights(backbone.path / "backbone.safetensors"))
    for name, tensor in build_backbone(SPEC).module.state_dict().items():
        assert torch.equal(tensor, reread.state_dict()[name]), name


def test_backbone_is_published_once(backbone: ModelVersion, backbone_registry: FolderRegistry) -> None:
    again = ensure_backbone(backbone_registry, SPEC)
    assert again == backbone
    assert len(backbone_registry.versions("backbone")) == 1


def test_a_backbone_in_use_stays(
    backbone: ModelVersion, backbone_registry: FolderRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    assert ensure_backbone(backbone_registry, BackboneSpec("resnet50", "random")) == backbone
    assert "stays" in caplog.text


@pytest.mark.slow
def test_two_processes_agree_on_one_backbone(tmp_path: Path) -> None:
    code = (
        "import sys; from taxonomist.storage.registry.folder import FolderRegistry; "
        "from taxonomist.training.backbones.spec import BackboneSpec; "
        "from taxonomist.training.backbones.publish import ensure_backbone; "
        "print(ensure_backbone(FolderRegistry(sys.argv[1]), BackboneSpec(weights='random', size=32)).version)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == ["v1", "v1"]
    assert FolderRegistry(tmp_path).champion("backbone") == "v1"
