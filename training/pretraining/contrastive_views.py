"""Random views for contrastive pre-training, made in batches on the device that trains, each picture with its own draw.

Crop, resize and flips of a picture are two small matrices, one for its rows and one for its columns, that are
multiplied to its pixels; colour jitter and grey are one 3x4 matrix; blur is again a matrix for rows and columns. So a
batch costs a few batched matrix products, which every device is good at. Compared with Pillow's transforms, colours
are clipped once at the end and hue turns in the YIQ plane.
"""

import math

import torch
from torch import Tensor

from taxonomist.training.backbones.backbone import MEAN, STD
from taxonomist.training.pretraining.recipe import ViewOptions

_GREY = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_CROP_ATTEMPTS = 10
_JITTERS = 4


def random_views(
    pictures: Tensor, size: int, options: ViewOptions, generator: torch.Generator, *, normalised: bool = True
) -> Tensor:
    """One view of each picture: uint8 (n, s, s, 3) to float32 (n, 3, size, size), channels last.

    `generator` is of the CPU, whatever the device of the pictures, so that a seed draws the same views everywhere.
    Without `normalised` the values are in 0..1.
    """
    draw = _Draw(len(pictures), pictures.device, generator)
    x = pictures.permute(0, 3, 1, 2).float() / 255
    factor = max(1, pictures.shape[1] // (2 * size))
    if factor > 1:  # what no view could show need not be carried along
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
    """Colours in 0..1, (n, 3, h, w), as the backbone's weights expect them."""
    mean, std = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (x - mean) / std


class _Draw:
    """Random numbers, one for each picture of a batch."""

    def __init__(self, count: int, device: torch.device, generator: torch.Generator) -> None:
        self._count, self._device, self._generator = count, device, generator

    def uniform(self, low: float = 0.0, high: float = 1.0, each: int = 1) -> Tensor:
        """(n,), or (n, each)."""
        drawn = low + (high - low) * torch.rand(self._count, each, generator=self._generator)
        return (drawn[:, 0] if each == 1 else drawn).to(self._device)

    def happens(self, probability: float) -> Tensor:
        """bool (n,)."""
        return self.uniform() < probability

    def orders(self, of: int) -> Tensor:
        """Permutations of 0..of-1, (n, of)."""
        return torch.rand(self._count, of, generator=self._generator).argsort(1).to(self._device)


def _crop_matrices(side: int, size: int, draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor]:
    """Matrices (n, size, side) that cut out a random box and resize it, for rows and for columns."""
    area = draw.uniform(options.min_scale, options.max_scale, _CROP_ATTEMPTS)
    ratio = torch.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3), _CROP_ATTEMPTS))
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    # The first box that fits, as torchvision's RandomResizedCrop does it; should none fit, the whole picture.
    first = fits.float().argmax(1, keepdim=True)
    none = ~fits.any(1)
    width, height = (sides.gather(1, first).squeeze(1).masked_fill(none, 1.0) for sides in (widths, heights))
    columns = _resize_matrix(side, size, draw.uniform() * (1 - width), width, draw.happens(options.horizontal_flip))
    rows = _resize_matrix(side, size, draw.uniform() * (1 - height), height, draw.happens(options.vertical_flip))
    return rows, columns


def _resize_matrix(side: int, size: int, start: Tensor, length: Tensor, flipped: Tensor) -> Tensor:
    """(n, size, side): bilinear, with a wider triangle where it makes smaller, as Pillow's resize does it.

    `start` and `length` (n,) are in shares of the side.
    """
    at = (torch.arange(size, device=start.device) + 0.5) / size
    at = torch.where(flipped[:, None], 1 - at, at)
    centres = (start[:, None] + at * length[:, None]) * side
    reach = (length * side / size).clamp(min=1.0)[:, None, None]
    pixels = torch.arange(side, device=start.device) + 0.5
    weights = (1 - (pixels - centres[:, :, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def _rotate(x: Tensor, draw: _Draw, options: ViewOptions) -> Tensor:
    """Turn some pictures around their centre; what comes in from outside is white, as their padding is."""
    turned = draw.happens(options.rotation)
    angle = torch.deg2rad(draw.uniform(-options.degrees, options.degrees)) * turned
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x - 1, grid, align_corners=False) + 1


def _colour_matrix(mean: Tensor, draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor]:
    """Colour jitter in random order, then grey: matrices (n, 3, 3) and offsets (n, 3). `mean` (n, 3) is that of each
    view, which contrast turns around."""
    count, device = len(mean), mean.device
    grey, to_yiq = _GREY.to(device), _TO_YIQ.to(device)
    eye = torch.eye(3, device=device).expand(count, 3, 3)
    to_grey = grey.expand(3, 3)
    factors = [draw.uniform(max(0.0, 1 - by), 1 + by) for by in _strengths(options)]
    brightness, contrast, saturation = (factor[:, None, None] for factor in factors)
    turn = draw.uniform(-options.hue, options.hue) * 2 * math.pi
    scales = torch.stack(
        [
            brightness * eye,
            contrast * eye,
            saturation * eye + (1 - saturation) * to_grey,
            torch.linalg.inv(to_yiq) @ _turn_of_hue(turn) @ to_yiq,
        ],
        1,
    )
    matrix, offset = eye, torch.zeros_like(mean)
    rows = torch.arange(count, device=device)
    for kind in draw.orders(_JITTERS).T:
        step = scales[rows, kind]
        average = ((matrix @ mean[:, :, None]).squeeze(2) + offset) @ grey  # of the view as it is by now, in grey
        shift = torch.where(kind == 1, (1 - factors[1]) * average, 0.0)[:, None]
        matrix = step @ matrix
        offset = (step @ offset[:, :, None]).squeeze(2) + shift
    kept = ~draw.happens(options.jitter)[:, None]
    matrix, offset = torch.where(kept[:, :, None], eye, matrix), torch.where(kept, 0.0, offset)
    drained = draw.happens(options.grey)[:, None]
    return (
        torch.where(drained[:, :, None], to_grey @ matrix, matrix),
        torch.where(drained, (offset @ grey)[:, None].expand_as(offset), offset),
    )


def _strengths(options: ViewOptions) -> tuple[float, float, float]:
    return options.brightness, options.contrast, options.saturation


def _turn_of_hue(angle: Tensor) -> Tensor:
    """(n,) radians to matrices (n, 3, 3) that turn the plane of I and Q."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = ([one, zero, zero], [zero, cos, -sin], [zero, sin, cos])
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _blur_matrix(size: int, draw: _Draw, options: ViewOptions) -> Tensor:
    """(n, size, size): a Gaussian along one side, or nothing. At the edge the weights are scaled to sum to 1."""
    sigma = draw.uniform(options.min_sigma, options.max_sigma)
    sigma = torch.where(draw.happens(options.blur), sigma, 1e-3)[:, None, None]
    pixels = torch.arange(size, device=sigma.device)
    distance = (pixels[:, None] - pixels[None, :]).float()
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum(2, keepdim=True)
