"""The torch module."""

import torch
import torchvision

from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.weights import load_weights
from tests.training.conftest import random_images


def test_normalisation_is_torchvisions(resnet18: torch.nn.Module) -> None:
    module = Backbone("resnet18").eval()
    load_weights(module.encoder, resnet18.state_dict())
    resnet18.fc = torch.nn.Identity()
    chw = torch.from_numpy(random_images(2)).permute(0, 3, 1, 2)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = resnet18.eval()(normalise(chw / 255))
        torch.testing.assert_close(module(torch.from_numpy(random_images(2))), expected, rtol=1e-4, atol=1e-4)
