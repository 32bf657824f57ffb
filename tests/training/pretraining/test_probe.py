"""The neighbour score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.pretraining.probe import Probe, embed, neighbour_score
from tests.training.pretraining.small_images import small_images


def test_the_score_does_not_count_images_of_the_same_product() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    vectors = torch.from_numpy(np.repeat(centres, 3, 0) + random.normal(0, 0.01, (120, 16))).float()
    groups = np.repeat(np.arange(40), 3)
    of_product = Probe(np.zeros((120, 1, 1, 3), np.uint8), groups % 2, groups)
    alone = replace(of_product, groups=np.arange(120))
    assert neighbour_score(vectors, alone) > 0.95  # the other views of the product give it away
    assert neighbour_score(vectors, of_product) < 0.7


def test_embedding_leaves_the_encoder_in_training() -> None:
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1))
    encoder.append(torch.nn.Flatten())
    before = encoder.get_buffer("1.running_mean").clone()
    embed(encoder.train(), get_architecture("resnet18"), small_images(8), torch.device("cpu"))
    assert encoder.training
    torch.testing.assert_close(encoder.get_buffer("1.running_mean"), before)
