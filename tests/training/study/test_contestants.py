from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from taxonomist.inference.starter import publish_starter
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.study.contestants import TorchEmbed, pixels, published, resnet
from taxonomist.training.study.fine_tune import TuneOptions, _Tuner, fine_tune
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.split import Sizes, Split, draw_split
from tests.images import shapes
from tests.training.conftest import SPEC

pytestmark = pytest.mark.slow

SMALL = BackboneSpec(weights="random", size=32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_images_of(count: int, size: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def test_pixels_are_means_of_blocks() -> None:
    images = random_images_of(3, 64)
    blocks = images.reshape(3, 16, 4, 16, 4, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(pixels(16).embed(images), blocks.reshape(3, -1), atol=1 / 255)


def test_a_published_backbone_embeds_as_the_module_it_came_from(backbone: ModelVersion) -> None:
    served, module = published(backbone), resnet(SPEC)
    images = random_images_of(3, SPEC.size)
    np.testing.assert_allclose(served.embed(images), module.embed(images), atol=1e-3)
    assert backbone.version in served.name
    assert "random, seed 0" in served.origin
    # Images of another size are resized to the backbone's.
    assert served.embed(random_images_of(2, 100)).shape == module.embed(random_images_of(2, 100)).shape == (2, 512)
    assert served.backbone is not None
    tuned, size = served.backbone()
    np.testing.assert_allclose(TorchEmbed(tuned, size)(images), module.embed(images), atol=1e-4)


def test_the_starter_can_be_fine_tuned_though_it_serves_in_8_bits(tmp_path: Path) -> None:
    served = published(publish_starter(FolderRegistry(tmp_path), "backbone"))
    assert served.backbone is not None
    module, size = served.backbone()
    ours, theirs = served.embed(shapes()), TorchEmbed(module, size)(shapes())
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.mean() > 0.9


def test_contestants_of_different_weights_have_different_origins() -> None:
    one, other = resnet(SMALL), resnet(replace(SMALL, seed=1))
    assert one.origin != other.origin
    over = replace(one, oversample=True)
    assert over.differs_in_oversampling(one)
    assert one.differs_in_oversampling(over)
    assert not over.differs_in_oversampling(other)
    assert not over.differs_in_oversampling(replace(one, fine_tune=1))


def stripes() -> LabelledImages:
    """Return images of horizontal or vertical stripes in two random colours."""
    random = np.random.default_rng(0)
    along = np.repeat((np.arange(32) // 4 % 2)[:, None], 32, axis=1)
    shown = [random.integers(0, 256, (2, 3))[along.T if number % 2 else along] for number in range(120)]
    noisy = np.clip(np.stack(shown) + random.normal(0, 10, (120, 32, 32, 3)), 0, 255).astype(np.uint8)
    names = [str(number) for number in range(120)]
    return LabelledImages(names, noisy, [("across",) if number % 2 else ("along",) for number in range(120)], names)


@pytest.mark.slow
def test_fine_tuning_trains_the_last_blocks_and_nothing_else() -> None:
    labelled = stripes()
    split = draw_split(labelled.items, frozenset(), Sizes(60, 30, 30), 0)
    contestant = resnet(SMALL)
    assert contestant.backbone is not None
    module, size = contestant.backbone()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    options = TuneOptions(blocks=2, views=0, epochs=5, batch=8)
    tuned = fine_tune(module, size, labelled, split, options)
    after = tuned.module.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(name.startswith("encoder.layer4.") for name in changed)
    assert not any("running" in name for name in changed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())  # the original stays
    # It learns more than its linear layer alone.
    deeper = replace(options, blocks=4)
    assert loss(module, labelled, split, deeper) < 0.8 * loss(module, labelled, split, replace(deeper, lr=0.0))


def loss(module: Backbone, labelled: LabelledImages, split: Split, options: TuneOptions) -> float:
    """Return the lowest validation loss of a fine-tuning."""
    torch.manual_seed(0)
    return _Tuner(deepcopy(module), SMALL.size, labelled, options).run(split)


def test_fine_tuning_more_blocks_than_there_are(catalogue: Callable[..., LabelledImages]) -> None:
    labelled = catalogue(size=32)
    split = draw_split(labelled.items, frozenset(), Sizes(20, 10, 10), 0)
    contestant = resnet(SMALL)
    assert contestant.backbone is not None
    with pytest.raises(ConfigError, match="9 blocks are to be fine-tuned, but the backbone has 8"):
        fine_tune(*contestant.backbone(), labelled, split, TuneOptions(blocks=9))
