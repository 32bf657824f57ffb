"""Random views for contrastive pre-training, computed in batches on the training device, with a draw for each image.

Crop, resize and flips of an image are two small matrices, one for its rows and one for its columns, that multiply its
pixels; colour jitter and grey are one 3x4 matrix; blur is again a matrix for rows and columns. A batch therefore costs
a few batched matrix products, which are fast on every device. Unlike in Pillow's transforms, colours are clipped once
at the end, and hue is rotated in the YIQ plane.
"""

import math

import torch
from torch import Tensor

from taxonomist.training.backbones.backbone import MEAN, STD
from taxonomist.training.pretraining.recipe import ViewOptions

# Luma and the YIQ colour space of ITU-R BT.601 and NTSC, https://en.wikipedia.org/wiki/YIQ
_GREY = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_CROP_ATTEMPTS = 10
_JITTERS = 4


def contrastive_views(
    images: Tensor, size: int, options: ViewOptions, generator: torch.Generator, *, normalised: bool = True
) -> Tensor:
    """Return one view of each image uint8 (n, s, s, 3): float32 (n, 3, size, size), channels last.

    `generator` is of the CPU, whatever the device of the images, so that a seed draws the same views everywhere.
    Without `normalised` the values are in 0..1.
    """
    draw = _Draw(len(images), images.device, generator)
    x = images.permute(0, 3, 1, 2).float() / 255
    factor = max(1, images.shape[1] // (2 * size))
    if factor > 1:  # finer details are lost in every view
        x = torch.nn.functional.avg_pool2d(x, factor)
    if options.rotation:
        x = _rotate(x, draw, options)
    rows, columns = _crop_matrices(x.shape[-1], size, draw, options)
    x = rows[:, None] @ x @ columns[:, None].mT
    matrix, offset = _colour_matrix(x.mean((2, 3)), draw, options)
    x = torch.baddbmm(offset[:, :, None], matrix, x.flatten(2)).clamp_(0, 1).view_as(x)
    if options.blur:
        kernel = _blur_matrix(size, draw, options)[:, None]
        x = kernel @ x @ kernel.mT
    return (normalise(x) if normalised else x).contiguous(memory_format=torch.channels_last)


def normalise(x: Tensor) -> Tensor:
    """Return colours in 0..1, (n, 3, h, w), as the backbone's weights expect them."""
    mean, std = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (x - mean) / std


class _Draw:
    """Draws random numbers, one for each of n images."""

    def __init__(self, count: int, device: torch.device, generator: torch.Generator) -> None:
        self._count, self._device, self._generator = count, device, generator

    def uniform(self, low: float = 0.0, high: float = 1.0, repeat: int = 1) -> Tensor:
        """Return numbers (n,), or (n, repeat)."""
        drawn = low + (high - low) * torch.rand(self._count, repeat, generator=self._generator)
        return (drawn[:, 0] if repeat == 1 else drawn).to(self._device)

    def bernoulli(self, probability: float) -> Tensor:
        """Return bool (n,), true with that probability."""
        return self.uniform() < probability

    def permutations(self, length: int) -> Tensor:
        """Return permutations (n, length) of 0 to length - 1."""
        return torch.rand(self._count, length, generator=self._generator).argsort(1).to(self._device)


def _crop_matrices(side: int, size: int, draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor]:
    """Return matrices (n, size, side) that cut out a random box and resize it, for rows and for columns."""
    area = draw.uniform(options.min_scale, options.max_scale, _CROP_ATTEMPTS)
    ratio = torch.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3), _CROP_ATTEMPTS))
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    # The first box that fits, as in torchvision's RandomResizedCrop; the whole image when none fits.
    first = fits.float().argmax(1, keepdim=True)
    none = ~fits.any(1)
    width, height = (sides.gather(1, first).squeeze(1).masked_fill(none, 1.0) for sides in (widths, heights))
    columns = _resize_matrix(side, size, draw.uniform() * (1 - width), width, draw.bernoulli(options.horizontal_flip))
    rows = _resize_matrix(side, size, draw.uniform() * (1 - height), height, draw.bernoulli(options.vertical_flip))
    return rows, columns


def _resize_matrix(side: int, size: int, start: Tensor, length: Tensor, flipped: Tensor) -> Tensor:
    """Return matrices (n, size, side): bilinear, with a wider triangle for a reduction, as in Pillow's resize.

    `start` and `length` (n,) are in shares of the side.
    """
    positions = (torch.arange(size, device=start.device) + 0.5) / size  # in 0..1 of the view
    positions = torch.where(flipped[:, None], 1 - positions, positions)  # (n, size)
    centres = (start[:, None] + positions * length[:, None]) * side  # (n, size), in pixels of the image
    radius = (length * side / size).clamp(min=1.0)[:, None, None]
    pixels = torch.arange(side, device=start.device) + 0.5
    weights = (1 - (pixels - centres[:, :, None]).abs() / radius).clamp(min=0)  # (n, size, side)
    return weights / weights.sum(2, keepdim=True)


def _rotate(x: Tensor, draw: _Draw, options: ViewOptions) -> Tensor:
    """Return (n, 3, h, w) with some images rotated around their centre; the outside is white, as their padding is."""
    rotated = draw.bernoulli(options.rotation)
    angle = torch.deg2rad(draw.uniform(-options.degrees, options.degrees)) * rotated
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x - 1, grid, align_corners=False) + 1


def _colour_matrix(mean: Tensor, draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor]:
    """Return matrices (n, 3, 3) and offsets (n, 3) for colour jitter in random order, then grey.

    `mean` (n, 3) is the mean colour of each view; contrast scales the distance from it.
    """
    count, device = len(mean), mean.device
    grey, to_yiq = _GREY.to(device), _TO_YIQ.to(device)
    eye = torch.eye(3, device=device).expand(count, 3, 3)
    to_grey = grey.expand(3, 3)
    strengths = (options.brightness, options.contrast, options.saturation)
    factors = [draw.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
    brightness, contrast, saturation = (factor[:, None, None] for factor in factors)
    angle = draw.uniform(-options.hue, options.hue) * 2 * math.pi
    jitters = torch.stack(
        [
            brightness * eye,
            contrast * eye,
            saturation * eye + (1 - saturation) * to_grey,
            torch.linalg.inv(to_yiq) @ _rotation_of_hue(angle) @ to_yiq,
        ],
        1,
    )  # (n, 4, 3, 3)
    matrix, offset = eye, torch.zeros_like(mean)
    rows = torch.arange(count, device=device)
    for kind in draw.permutations(_JITTERS).T:
        step = jitters[rows, kind]  # (n, 3, 3)
        average = ((matrix @ mean[:, :, None]).squeeze(2) + offset) @ grey  # of the view so far, in grey
        shift = torch.where(kind == 1, (1 - factors[1]) * average, 0.0)[:, None]
        matrix = step @ matrix
        offset = (step @ offset[:, :, None]).squeeze(2) + shift
    unchanged = ~draw.bernoulli(options.jitter)[:, None]
    matrix, offset = torch.where(unchanged[:, :, None], eye, matrix), torch.where(unchanged, 0.0, offset)
    is_grey = draw.bernoulli(options.grey)[:, None]
    return (
        torch.where(is_grey[:, :, None], to_grey @ matrix, matrix),
        torch.where(is_grey, (offset @ grey)[:, None].expand_as(offset), offset),
    )


def _rotation_of_hue(angle: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that rotate the plane of I and Q by angles (n,) in radians."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = ([one, zero, zero], [zero, cos, -sin], [zero, sin, cos])
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _blur_matrix(size: int, draw: _Draw, options: ViewOptions) -> Tensor:
    """Return matrices (n, size, size): a Gaussian along one side, or the identity. Weights sum to 1, also at edges."""
    sigma = draw.uniform(options.min_sigma, options.max_sigma)
    sigma = torch.where(draw.bernoulli(options.blur), sigma, 1e-3)[:, None, None]
    pixels = torch.arange(size, device=sigma.device)
    distance = (pixels[:, None] - pixels[None, :]).float()
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum(2, keepdim=True)
