"""torchvision's network, and a torch cache without network."""

from pathlib import Path

import pytest
import torch
import torchvision

FILE_NAME = "resnet18-f37072fd.pth"  # of torchvision's weights in torch's cache


@pytest.fixture
def resnet18() -> torch.nn.Module:
    torch.manual_seed(7)
    module: torch.nn.Module = torchvision.models.resnet18(weights=None)
    return module


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no server listens there: an immediate error
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder
