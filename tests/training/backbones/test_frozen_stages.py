"""The first stages of a network stay as they are."""

from __future__ import annotations

from copy import deepcopy

import torch

from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.frozen_stages import freeze_first_stages


def test_frozen_stages_change_neither_weights_nor_statistics() -> None:
    module = Backbone("resnet18")
    freeze_first_stages(module.encoder, module.architecture, 0.6)
    encoder = deepcopy(module.encoder).train()  # as the key encoder is a copy
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    encoder(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    changed = {name.split(".")[0] for name, value in encoder.state_dict().items() if not value.equal(before[name])}
    assert changed == {"layer3", "layer4"}  # two of four stages
