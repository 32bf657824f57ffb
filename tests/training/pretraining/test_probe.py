"""The score on held-out products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score

from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.pretraining.probe import Probe, embed, held_out_score, linear_probe, product_retrieval
from tests.training.pretraining.small_images import small_images

IMAGES = np.zeros((120, 1, 1, 3), np.uint8)


def test_retrieval_counts_held_out_images_of_products_with_several() -> None:
    vectors = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.95, 0.05], [0.1, 1], [1.0, 0.001]])
    groups = np.array([0, 0, 1, 1, 2, 0])
    held_out = np.array([True, True, True, True, True, False])
    probe = Probe(IMAGES[:6], np.full(6, -1), groups, held_out)
    assert probe.queries.tolist() == [0, 1, 2, 3]  # the last one is trained on, product 2 has one image
    # The nearest: of 0 is 3, of 1 is 3, of 2 is 4, of 3 is 0 or 1. None shows the same product.
    assert product_retrieval(vectors, probe) == 0
    assert product_retrieval(vectors, replace(probe, groups=np.array([0, 0, 1, 0, 1, 0]))) == 1
    assert not replace(probe, groups=np.arange(6)).can_score


def test_the_linear_probe_learns_from_others_than_it_asks() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, -1], 40)
    vectors = torch.from_numpy(random.normal(0, 1, (120, 8)) + labels[:, None] * [4, 0, 0, 0, 0, 0, 0, 0]).float()
    held_out = np.arange(120) % 2 == 0
    probe = Probe(IMAGES, labels, np.arange(120), held_out)
    expected = RidgeClassifier(0.3 * 40).fit(vectors[~held_out & (labels >= 0)], labels[~held_out & (labels >= 0)])
    guess = expected.predict(vectors[held_out & (labels >= 0)])
    truth = labels[held_out & (labels >= 0)]
    assert linear_probe(vectors, probe) == pytest.approx(f1_score(truth, guess, average="macro"), abs=0.03)
    assert held_out_score(vectors, probe) == linear_probe(vectors, probe)  # no product has two images
    wrong = replace(probe, labels=np.where(held_out & (labels >= 0), 1 - labels, labels))
    assert linear_probe(vectors, wrong) < 0.1
    assert not replace(probe, held_out=np.ones(120, np.bool_)).can_score  # nothing to learn from


def test_numbers_that_are_all_but_constant_do_not_decide_the_linear_probe() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    vectors = random.normal(0, 1, (120, 8)) + labels[:, None] * [4, 0, 0, 0, 0, 0, 0, 0]
    constant = random.normal(0, 1e-5, (120, 200)) * np.where(np.arange(120) % 2, 1, 20)[:, None]
    probe = Probe(IMAGES, labels, np.arange(120), np.arange(120) % 2 == 0)
    alone = linear_probe(torch.from_numpy(vectors).float(), probe)
    assert linear_probe(torch.from_numpy(np.hstack([vectors, constant])).float(), probe) >= alone - 0.02


def test_embedding_leaves_the_encoder_in_training() -> None:
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1))
    encoder.append(torch.nn.Flatten())
    before = encoder.get_buffer("1.running_mean").clone()
    embed(encoder.train(), get_architecture("resnet18"), small_images(8), torch.device("cpu"))
    assert encoder.training
    torch.testing.assert_close(encoder.get_buffer("1.running_mean"), before)
