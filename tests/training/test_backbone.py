import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
import torchvision

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError, DamagedError, PictureError, TrainingError
from taxonomist.training.backbones.backbone import Backbone, BackboneSpec, build, ensure_backbone, load_weights
from taxonomist.training.backbones.weights import read_weights
from tests.training.conftest import SIZE, SPEC

FILE_NAME = "resnet18-f37072fd.pth"  # as torchvision calls it in torch's cache


def pictures(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def resnet18() -> torch.nn.Module:
    torch.manual_seed(7)
    return torchvision.models.resnet18(weights=None)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there: no network, at once
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("count", [1, 3, 17, 33])
def test_torch_and_onnxruntime_agree(backbone: ModelVersion, count: int) -> None:
    with torch.inference_mode():
        expected = build(SPEC).module(torch.from_numpy(pictures(count))).numpy()
    found = Embedder(backbone.path / BACKBONE_FILE, SIZE, threads=1).embed(pictures(count))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "dimension"), [("resnet34", 512), ("resnet50", 2048)])
def test_deeper_backbones(tmp_path: Path, architecture: str, dimension: int) -> None:
    spec = BackboneSpec(architecture, "random", size=32)  # type: ignore[arg-type]
    version = ensure_backbone(FolderRegistry(tmp_path), spec)
    with torch.inference_mode():
        expected = build(spec).module(torch.from_numpy(pictures(2, 32))).numpy()
    embedder = Embedder(version.path / BACKBONE_FILE)
    assert (embedder.size, embedder.dimension) == (32, dimension)
    # Relative: the values of a random resnet50 are in the hundreds.
    np.testing.assert_allclose(embedder.embed(pictures(2, 32)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_normalisation_is_torchvisions(resnet18: torch.nn.Module) -> None:
    module = Backbone("resnet18").eval()
    load_weights(module, resnet18.state_dict())
    resnet18.fc = torch.nn.Identity()
    chw = torch.from_numpy(pictures(2)).permute(0, 3, 1, 2)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = resnet18.eval()(normalise(chw / 255))
        torch.testing.assert_close(module(torch.from_numpy(pictures(2))), expected, rtol=1e-4, atol=1e-4)


def test_version_is_complete(backbone: ModelVersion, backbone_registry: FolderRegistry) -> None:
    manifest = backbone.manifest
    assert {"backbone.onnx", "backbone.safetensors"} == set(manifest["files"])
    assert (manifest["kind"], manifest["dimension"], manifest["size"]) == ("backbone", 512, SIZE)
    assert manifest["origin"] == "random, seed 0"
    backbone_registry.verify(backbone)
    reread = Backbone("resnet18")
    load_weights(reread, read_weights(backbone.path / "backbone.safetensors"))
    for name, tensor in build(SPEC).module.state_dict().items():
        assert torch.equal(tensor, reread.state_dict()[name]), name


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build(BackboneSpec(weights="random", seed=seed)).module.encoder for seed in (1, 1, 2))
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert torch.equal(torch.get_rng_state(), before)


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
        "from taxonomist.training.backbones.backbone import BackboneSpec, ensure_backbone; "
        "print(ensure_backbone(FolderRegistry(sys.argv[1]), BackboneSpec(weights='random', size=32)).version)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == ["v1", "v1"]
    assert FolderRegistry(tmp_path).champion("backbone") == "v1"


def test_auto_uses_the_file_in_torchs_cache(empty_cache: Path, resnet18: torch.nn.Module) -> None:
    torch.save(resnet18.state_dict(), empty_cache / FILE_NAME)
    built = build(BackboneSpec(weights="auto"))
    assert built.origin == "torchvision ImageNet"
    assert torch.equal(built.module.encoder.conv1.weight, resnet18.conv1.weight)


def test_auto_without_network_is_random_with_one_warning(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        built = build(BackboneSpec(weights="auto", seed=3))
    assert built.origin == "random, seed 3"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "random weights" in caplog.text
    assert list(empty_cache.iterdir()) == []


def test_auto_with_a_damaged_cache_is_random(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    (empty_cache / FILE_NAME).write_bytes(b"half a download")
    assert build(BackboneSpec(weights="auto")).origin == "random, seed 0"
    assert FILE_NAME in caplog.text


def test_imagenet_without_network_is_an_error(empty_cache: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be had"):
        build(BackboneSpec(weights="imagenet"))


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder_q."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, resnet18: torch.nn.Module, prefix: str, suffix: str) -> None:
    state = {prefix + name: tensor for name, tensor in resnet18.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    built = build(BackboneSpec(weights=str(path)))
    assert built.origin == f"file {path.name}"
    for name, tensor in built.module.encoder.state_dict().items():
        assert torch.equal(tensor, resnet18.state_dict()[name]), name


def test_weights_of_another_architecture(tmp_path: Path, resnet18: torch.nn.Module) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(resnet18.state_dict(), path)
    with pytest.raises(TrainingError, match="do not fit"):
        build(BackboneSpec("resnet34", str(path)))


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    text, code = tmp_path / "notes.safetensors", tmp_path / "code.pth"
    text.write_text("no weights")
    torch.save({"run": logging.Formatter()}, code)
    for path in (text, code, tmp_path / "missing.pth"):
        with pytest.raises(TrainingError, match=path.name):
            build(BackboneSpec(weights=str(path)))


def test_unknown_architecture() -> None:
    with pytest.raises(ConfigError, match="resnet18"):
        build(BackboneSpec("alexnet"))  # type: ignore[arg-type]


def test_embedder_refuses_what_does_not_fit(backbone: ModelVersion, tmp_path: Path) -> None:
    embedder = Embedder(backbone.path / BACKBONE_FILE)
    assert embedder.embed(pictures(0)).shape == (0, 512)
    assert embedder.embed_one(pictures(1)[0]).shape == (512,)
    for wrong in (pictures(1, 32), pictures(1)[0], pictures(1).astype(np.float32)):
        with pytest.raises(PictureError):
            embedder.embed(wrong)
    with pytest.raises(DamagedError, match="160"):
        Embedder(backbone.path / BACKBONE_FILE, 160)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((backbone.path / BACKBONE_FILE).read_bytes()[:1000])
    with pytest.raises(DamagedError, match="onnxruntime"):
        Embedder(damaged)


def test_model_is_for_any_supported_onnxruntime(backbone: ModelVersion) -> None:
    import onnx

    model = onnx.load(backbone.path / BACKBONE_FILE)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import}.get("") == 18
    assert model.ir_version <= 10, "onnxruntime 1.18 reads IR version 10 at most"
    assert onnxruntime.InferenceSession(backbone.path / BACKBONE_FILE).get_inputs()[0].type == "tensor(uint8)"
