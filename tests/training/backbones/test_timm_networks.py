"""Networks of timm by name: their weights from a file or from a hub, their export, and their later training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.added.candidate import write_timm_network
from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.timm_networks import describe_network, download_weights, load_timm_weights


def weights_of(name: str, path: Path) -> Path:
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model(name).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("tf_efficientnet_lite", "tf_efficientnet_lite0"),
        ("resnet18.another_tag", "resnet18"),
        ("hf-hub:someone/network", "timm.list_models"),
        ("local-dir:/tmp/network", ""),
    ],
)
def test_an_unknown_name(name: str, similar: str) -> None:
    with pytest.raises(ConfigError, match="has no network") as raised:
        describe_network(name)
    assert similar in str(raised.value)


def test_a_registered_network_is_found_by_timms_name() -> None:
    assert get_architecture("timm:tf_efficientnet_lite0.in1k") == get_architecture("efficientnet_lite0")


def test_a_network_that_is_too_large_is_not_built() -> None:
    with pytest.raises(ConfigError, match=r"vit_giant_patch14_dinov2 has [\d,]+ MB, more than 512"):
        get_architecture("timm:vit_giant_patch14_dinov2")


def test_a_transformer_of_another_size_is_timms(tmp_path: Path) -> None:
    """Its weights are for 160 pixels, and the positions are interpolated."""
    weights = weights_of("test_vit", tmp_path / "weights.safetensors")
    module = Backbone("timm:test_vit").eval()
    load_timm_weights(module.encoder, "test_vit", weights, complete=True)
    module.set_size(96)
    timms = timm.create_model("test_vit", num_classes=0, img_size=96).eval()
    assert isinstance(timms, VisionTransformer)
    state = checkpoint_filter_fn(safetensors.torch.load_file(weights), timms)
    described = describe_network("test_vit")
    timms.load_state_dict({name: state[name] for name in timms.state_dict()})
    mean, std = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (described.mean, described.std))
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = timms((images.permute(0, 3, 1, 2) / 255 - mean) / std)
        torch.testing.assert_close(module(images), expected, rtol=1e-4, atol=1e-4)
    assert module.dimension == expected.shape[1]


def test_a_size_that_a_transformer_cannot_take(tmp_path: Path) -> None:
    weights = weights_of("test_vit", tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match="timm:test_vit does not take images of 100 pixels"):
        write_timm_network("test_vit", tmp_path, 100, weights)


def test_weights_from_a_file_have_no_known_licence_but_timms_have(tmp_path: Path) -> None:
    found = write_timm_network(
        "test_efficientnet", tmp_path, 32, weights_of("test_efficientnet", tmp_path / "w.safetensors")
    )
    assert (found.licence, found.timms_licence) == ("", "apache-2.0")


def test_weights_of_a_larger_network_do_not_fit(tmp_path: Path) -> None:
    """Those of ResNet34 have an array for each of ResNet18's, and more."""
    weights = weights_of("resnet34", tmp_path / "weights.safetensors")
    encoder = Backbone("timm:resnet18").encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(TrainingError, match="of a larger network than resnet18"):
        load_timm_weights(encoder, "resnet18", weights, complete=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_a_network_that_is_not_registered_is_built_again_from_its_weights(tmp_path: Path) -> None:
    built = build_backbone(BackboneSpec("timm:test_efficientnet", "random", seed=3, size=64))
    path = tmp_path / "backbone.safetensors"
    safetensors.torch.save_file(built.module.state_dict(), path)
    again = build_backbone(BackboneSpec("timm:test_efficientnet", str(path), size=64)).module
    images = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        embedding = again(images)
        assert torch.equal(embedding, built.module(images))
    assert embedding.shape == (1, again.dimension)
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        again.cut(1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that answers as a hub does for one file; yields the paths that were asked for."""
    content = weights_of("test_efficientnet", tmp_path / "hub.safetensors").read_bytes()
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()
            self.wfile.write(content)

        def _answer(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield asked
    server.shutdown()
    server.server_close()


def test_weights_come_from_timms_hub_as_safetensors_only(hub: list[str], tmp_path: Path) -> None:
    path = download_weights("test_efficientnet")
    assert path.read_bytes() == (tmp_path / "hub.safetensors").read_bytes()
    assert {request.partition("?")[0] for request in hub} == {
        "/timm/test_efficientnet.r160_in1k/resolve/main/model.safetensors"
    }


def test_without_a_hub_the_error_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TrainingError, match=r"test_vit could not be fetched .*Give the weights as a file: --weights"):
        download_weights("test_vit")
    with pytest.raises(TrainingError, match="timm's hub has no weights of convnext_atto_rms"):
        download_weights("convnext_atto_rms")
