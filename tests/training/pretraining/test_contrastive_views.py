"""Views in batches, against lightly's transform of MoCo v2, which makes them one by one with Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.transforms.moco_transform import MoCoV2Transform
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.pretraining.contrastive_views import VIEW_NUMBERS, contrastive_views, view_parameters
from taxonomist.training.pretraining.recipe import ViewOptions
from tests.training.pretraining.small_images import small_images

PLAIN = ViewOptions(min_scale=1.0, max_scale=1.0, horizontal_flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
SIZE = 32


def scene(side: int = 64) -> NDArray[Any]:
    """Return an image with edges, colours and a gradient, without symmetry."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.stack([x, y * 0.8, 0.3 + 0.4 * (x > 0.6)], 2)
    image[(x - 0.3) ** 2 + (y - 0.35) ** 2 < 0.04] = (0.9, 0.25, 0.1)
    return (image * 255).astype(np.uint8)


def ours(count: int, options: ViewOptions, *, seed: int = 0, size: int = SIZE) -> Tensor:
    images = torch.from_numpy(np.repeat(scene()[None], count, 0))
    return contrastive_views(images, size, options, parameters(count, options, seed), None)


def parameters(count: int, options: ViewOptions, seed: int = 0) -> Tensor:
    numbers = torch.rand(count, VIEW_NUMBERS, generator=torch.Generator().manual_seed(seed))
    return view_parameters(numbers, options)


def lightlys(count: int) -> Tensor:
    torch.manual_seed(0)
    transform = MoCoV2Transform(input_size=SIZE, normalize=None)
    image = Image.fromarray(scene())
    return torch.stack([torch.as_tensor(transform(image)[0]) for _ in range(count)])


def figures(views: Tensor) -> dict[str, tuple[float, float]]:
    """Return statistics of views (n, 3, SIZE, SIZE): the mean over the views, and its standard error."""
    grey = views.mean(1)
    saturation = views.amax(1) - views.amin(1)
    edges = (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2))
    statistics = {
        "brightness": grey.mean((1, 2)),
        "contrast": grey.std((1, 2)),
        "red": views[:, 0].mean((1, 2)),
        "blue": views[:, 2].mean((1, 2)),
        "saturation": saturation.mean((1, 2)),
        "grey": (saturation.amax((1, 2)) < 0.02).float(),
        "edges": edges,
        "left minus right": grey[..., : SIZE // 2].mean((1, 2)) - grey[..., SIZE // 2 :].mean((1, 2)),
        "spread of brightness": (grey.mean((1, 2)) - grey.mean()).abs(),
        "spread of contrast": (grey.std((1, 2)) - grey.std((1, 2)).mean()).abs(),
        "spread of edges": (edges - edges.mean()).abs(),
    }
    return {name: (float(x.mean()), float(x.std() / len(x) ** 0.5)) for name, x in statistics.items()}


@pytest.mark.slow
def test_statistics_are_those_of_lightlys_transform() -> None:
    mine, theirs = figures(ours(2500, ViewOptions())), figures(lightlys(2500))
    for name, (value, error) in mine.items():
        other, other_error = theirs[name]
        # Four standard errors, and 2 hundredths of the range of colours for what is done in another way on purpose
        # (colours clipped once, hue turned in YIQ).
        assert abs(value - other) < 4 * (error**2 + other_error**2) ** 0.5 + 0.02, (name, value, other)


def test_without_chance_it_is_a_plain_resize() -> None:
    expected = np.asarray(Image.fromarray(scene()).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) / 255
    got = ours(2, PLAIN)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=1.5 / 255)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"horizontal_flip": 1.0}, lambda x: x.flip(3)),
        ({"vertical_flip": 1.0}, lambda x: x.flip(2)),
        ({"grey": 1.0}, lambda x: (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, True).expand_as(x)),
    ],
)
def test_flips_and_grey(changes: dict[str, float], expected: object) -> None:
    from dataclasses import replace

    plain = ours(3, PLAIN)
    torch.testing.assert_close(ours(3, replace(PLAIN, **changes)), expected(plain), atol=1e-5, rtol=0)  # type: ignore[operator]


def test_a_quarter_turn_keeps_the_middle_and_fills_with_white() -> None:
    options = ViewOptions(**{**PLAIN.__dict__, "rotation": 1.0, "degrees": 45.0})
    views = ours(200, options)
    assert (views[..., 0, 0].mean(1) > 0.99).float().mean() > 0.4  # a corner that came in from outside
    middle = views[..., SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean((2, 3))
    assert float(middle.std(0).max()) < 0.05


def test_blur_takes_edges_away_and_no_light() -> None:
    options = ViewOptions(**{**PLAIN.__dict__, "blur": 1.0, "min_sigma": 2.0, "max_sigma": 2.0})
    sharp, blurred = ours(1, PLAIN), ours(1, options)

    def edge(x: Tensor) -> float:
        return float((x[..., 1:] - x[..., :-1]).abs().max())

    assert edge(blurred) < 0.5 * edge(sharp)
    torch.testing.assert_close(sharp.mean(), blurred.mean(), atol=0.01, rtol=0)


def test_each_image_has_its_own_draw_and_a_seed_repeats_them() -> None:
    first = ours(16, ViewOptions())
    assert len({tuple(view.flatten()[:50].tolist()) for view in first}) == 16
    torch.testing.assert_close(first, ours(16, ViewOptions()), rtol=0, atol=0)
    assert not torch.equal(first, ours(16, ViewOptions(), seed=1))


def test_a_large_batch_has_the_views_of_small_ones() -> None:
    images, drawn = torch.from_numpy(small_images(37)), parameters(37, ViewOptions())
    views = contrastive_views(images, SIZE, ViewOptions(), drawn, get_architecture("resnet18"))
    assert views.is_contiguous(memory_format=torch.channels_last)
    for start in range(0, 37, 5):
        part = slice(start, start + 5)
        alone = contrastive_views(images[part], SIZE, ViewOptions(), drawn[part], get_architecture("resnet18"))
        torch.testing.assert_close(views[part], alone)


def test_colours_stay_in_range_and_are_normalised_at_last() -> None:
    views = ours(64, ViewOptions(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5))
    assert float(views.min()) > -1e-5
    assert float(views.max()) < 1 + 1e-5
    images = torch.from_numpy(np.repeat(scene()[None], 4, 0))
    normal = contrastive_views(images, SIZE, PLAIN, parameters(4, PLAIN), get_architecture("resnet18"))
    expected = (ours(4, PLAIN) - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    torch.testing.assert_close(normal, expected)
    assert normal.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("default", ViewOptions(), 24),
        ("turned", ViewOptions(vertical_flip=0.5, rotation=0.7, min_scale=0.05, hue=0.3), 12),
        ("plain", ViewOptions(blur=0.0, jitter=0.0, grey=0.0), 40),
    ],
)
def test_equal_numbers_give_the_views_of_an_earlier_release(name: str, options: ViewOptions, size: int) -> None:
    """The release drew its numbers as it computed the views: numbers and views are in the file."""
    with np.load(Path(__file__).parent / "earlier_release.npz") as earlier:
        numbers, expected = (torch.from_numpy(earlier[f"{kind}_{name}"]) for kind in ("numbers", "views"))
    images = torch.from_numpy(small_images(6, 64))
    views = contrastive_views(images, size, options, view_parameters(numbers, options), get_architecture("resnet18"))
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)
