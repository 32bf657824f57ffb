"""Random views for contrastive pre-training, as a pure function of images and numbers that were drawn before.

Crop, resize and flips of an image are two small matrices, one for its rows and one for its columns, that multiply its
pixels; colour jitter and grey are one affine map of colours; blur is again a matrix for rows and columns. A batch
therefore costs a few batched matrix products, which are fast on every device. Unlike in Pillow's transforms, colours
are clipped once at the end, and hue is rotated in the YIQ plane.

The work is divided in two. `view_parameters` turns uniform random numbers into a few numbers for each view; it is cheap
and runs on the CPU, so that a seed gives the same views on every device. `contrastive_views` computes the pixels where
the training runs; it copies nothing between host and device, so that a CUDA graph can record it.
"""

import math
from functools import cache

import torch
from torch import Tensor

from taxonomist.training.backbones.architectures import Architecture, Colour
from taxonomist.training.pretraining.recipe import ViewOptions

VIEW_NUMBERS = 40
"""Uniform random numbers in 0..1 that `view_parameters` takes for one view of one image, at most."""

VIEW_PARAMETERS = 25
"""Numbers that describe one view of one image: see `view_parameters`."""

# Luma and the YIQ colour space of ITU-R BT.601 and NTSC, https://en.wikipedia.org/wiki/YIQ
_GREY = torch.tensor([0.299, 0.587, 0.114])
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)
_CROP_ATTEMPTS = 10
_JITTERS = 4
_CONTRAST = 1  # its place among the jitters
_NO_BLUR = 1e-3  # pixels
_PORTION = 16  # images


def view_parameters(numbers: Tensor, options: ViewOptions) -> Tensor:
    """Return the parameters (n, VIEW_PARAMETERS) of n views from uniform `numbers` (n, VIEW_NUMBERS) in 0..1.

    In order: cosine and sine of the rotation; start and extent of the crop along columns, then along rows, in shares of
    the side, a negative extent for a flip; the matrix of the colours (9) and that by which their mean is added (9); the
    sigma of the blur in pixels of the view.
    """
    draw = _Draw(numbers)
    angle = torch.zeros(len(numbers))
    if options.rotation:
        rotated = draw.bernoulli(options.rotation)
        angle = torch.deg2rad(draw.uniform(-options.degrees, options.degrees)) * rotated
    crop = _crop(draw, options)
    matrix, of_mean = _colours(draw, options)
    sigma = torch.full((len(numbers),), _NO_BLUR)
    if options.blur:
        sigma = draw.uniform(options.min_sigma, options.max_sigma)
        sigma = torch.where(draw.bernoulli(options.blur), sigma, _NO_BLUR)
    columns = [angle.cos(), angle.sin(), *crop, sigma]
    first, last = torch.stack(columns[:6], 1), torch.stack(columns[6:], 1)
    return torch.cat([first, matrix.flatten(1), of_mean.flatten(1), last], 1)


def contrastive_views(
    images: Tensor, size: int, options: ViewOptions, parameters: Tensor, architecture: Architecture | None
) -> Tensor:
    """Return one view of each image uint8 (n, s, s, 3): float32 (n, 3, size, size), channels last.

    `parameters` (n, VIEW_PARAMETERS) are those of `view_parameters`, for the same options, on the device of the images.
    The values are those that the `architecture` takes; without one they are in 0..1.
    """
    if images.device.type == "cpu" and len(images) > _PORTION:  # what stays in the processor's caches is much faster
        parts = [slice(start, start + _PORTION) for start in range(0, len(images), _PORTION)]
        return torch.cat([contrastive_views(images[p], size, options, parameters[p], architecture) for p in parts])
    rotation, columns, rows = parameters[:, :2], parameters[:, 2:4], parameters[:, 4:6]
    matrix, of_mean, sigma = parameters[:, 6:15].view(-1, 3, 3), parameters[:, 15:24].view(-1, 3, 3), parameters[:, 24]
    x = images.float()  # (n, s, s, 3), in 0..255
    factor = max(1, images.shape[1] // (2 * size))
    if factor > 1:  # finer details are lost in every view
        x = _reduce(x, factor)
    if options.rotation:
        x = _rotate(x, rotation)
    side = x.shape[1]
    x = _multiply(_resize_matrix(side, size, rows) / 255, x)  # (n, size, s, 3), in 0..1
    x = _multiply(_resize_matrix(side, size, columns), x.transpose(1, 2))  # (n, size, size, 3), columns before rows
    pixels = x.flatten(1, 2)  # (n, size * size, 3)
    offset = pixels.mean(1, keepdim=True) @ of_mean.mT  # (n, 1, 3)
    x = torch.baddbmm(offset, pixels, matrix.mT).clamp_(0, 1).view_as(x)
    if options.blur:
        kernel = _blur_matrix(size, sigma)
        x = _multiply(kernel, _multiply(kernel, x).transpose(1, 2))
    else:
        x = x.transpose(1, 2)
    x = x.permute(0, 3, 1, 2)  # (n, 3, size, size), which is channels last in memory
    return (x if architecture is None else normalise(x, architecture)).contiguous(memory_format=torch.channels_last)


def normalise(x: Tensor, architecture: Architecture) -> Tensor:
    """Return colours in 0..1, (n, 3, h, w), as the weights of an architecture expect them."""
    scale, shift = _normalisation(x.device, architecture.mean, architecture.std)
    return torch.addcmul(shift, x, scale)


@cache
def _normalisation(device: torch.device, means: Colour, stds: Colour) -> tuple[Tensor, Tensor]:
    """Return scale and shift (1, 3, 1, 1), which are copied to a device only once."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (means, stds))
        return (1 / std).to(device), (-mean / std).to(device)


class _Draw:
    """Takes random numbers for n images from the columns of `numbers` (n, VIEW_NUMBERS), one after the other."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._taken = numbers, 0

    def uniform(self, low: float = 0.0, high: float = 1.0, repeat: int = 1) -> Tensor:
        """Return numbers (n,), or (n, repeat)."""
        drawn = low + (high - low) * self._take(repeat)
        return drawn[:, 0] if repeat == 1 else drawn

    def bernoulli(self, probability: float) -> Tensor:
        """Return bool (n,), true with that probability."""
        return self.uniform() < probability

    def permutations(self, length: int) -> Tensor:
        """Return permutations (n, length) of 0 to length - 1."""
        return self._take(length).argsort(1)

    def _take(self, count: int) -> Tensor:
        self._taken += count
        assert self._taken <= self._numbers.shape[1]
        return self._numbers[:, self._taken - count : self._taken]


def _crop(draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return start and extent of a random box along columns, and along rows, each (n,), in shares of the side.

    A flipped box starts at its far end, and its extent is negative.
    """
    area = draw.uniform(options.min_scale, options.max_scale, _CROP_ATTEMPTS)
    ratio = torch.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3), _CROP_ATTEMPTS))
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    # The first box that fits, as in torchvision's RandomResizedCrop; the whole image when none fits.
    first = fits.float().argmax(1, keepdim=True)
    none = ~fits.any(1)
    width, height = (sides.gather(1, first).squeeze(1).masked_fill(none, 1.0) for sides in (widths, heights))

    def segment(length: Tensor, flip: float) -> tuple[Tensor, Tensor]:
        start = draw.uniform() * (1 - length)
        flipped = draw.bernoulli(flip)
        return torch.where(flipped, start + length, start), torch.where(flipped, -length, length)

    return *segment(width, options.horizontal_flip), *segment(height, options.vertical_flip)


def _resize_matrix(side: int, size: int, segment: Tensor) -> Tensor:
    """Return matrices (n, size, side): bilinear, with a wider triangle for a reduction, as in Pillow's resize.

    `segment` (n, 2) is where a view starts, and how far it extends, in shares of the side.
    """
    start, extent = segment[:, :1], segment[:, 1:]
    positions = (torch.arange(size, device=segment.device) + 0.5) / size  # in 0..1 of the view
    centres = (start + positions * extent) * side  # (n, size), in pixels of the image
    radius = (extent.abs() * side / size).clamp(min=1.0)[:, None]
    pixels = torch.arange(side, device=segment.device) + 0.5
    weights = (1 - (pixels - centres[:, :, None]).abs() / radius).clamp(min=0)  # (n, size, side)
    return weights / weights.sum(2, keepdim=True)


def _multiply(matrix: Tensor, x: Tensor) -> Tensor:
    """Return x (n, a, b, 3) with its second dimension multiplied by a matrix (n, c, a): (n, c, b, 3)."""
    return (matrix @ x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _reduce(x: Tensor, factor: int) -> Tensor:
    """Return x (n, s, s, 3) with its sides divided by `factor`, each pixel the mean of those that it replaces."""
    pooled = torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), factor)
    return pooled.permute(0, 2, 3, 1).contiguous()


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Return x (n, h, w, 3) rotated around its centre by cosine and sine (n, 2).

    The outside is white, as the padding of prepared images is.
    """
    cos, sin = rotation.unbind(1)
    zero = torch.zeros_like(cos)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    colours = x.permute(0, 3, 1, 2)
    grid = torch.nn.functional.affine_grid(theta, list(colours.shape), align_corners=False)
    rotated = torch.nn.functional.grid_sample(colours - 255, grid, align_corners=False) + 255
    return rotated.permute(0, 2, 3, 1).contiguous()


def _colours(draw: _Draw, options: ViewOptions) -> tuple[Tensor, Tensor]:
    """Return two matrices (n, 3, 3) for colour jitter in random order, then grey.

    A colour c of a view whose mean colour is m becomes `matrix` @ c + `of_mean` @ m: contrast scales the distance from
    the mean grey, which is linear in m.
    """
    strengths = (options.brightness, options.contrast, options.saturation)
    factors = [draw.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
    brightness, contrast, saturation = (factor[:, None, None] for factor in factors)
    angle = draw.uniform(-options.hue, options.hue) * 2 * math.pi
    eye, to_grey = torch.eye(3), _GREY.expand(3, 3)
    jitters = torch.stack(
        [
            brightness * eye,
            contrast * eye,
            saturation * eye + (1 - saturation) * to_grey,
            _FROM_YIQ @ _rotation_of_hue(angle) @ _TO_YIQ,
        ],
        1,
    )  # (n, 4, 3, 3)
    matrix, of_mean = eye.expand(len(angle), 3, 3), torch.zeros(len(angle), 3, 3)
    rows = torch.arange(len(angle))
    for kind in draw.permutations(_JITTERS).T:
        step = jitters[rows, kind]  # (n, 3, 3)
        mean_grey = to_grey @ (matrix + of_mean)  # of the view so far: each row gives it from the mean colour
        shift = torch.where((kind == _CONTRAST)[:, None, None], (1 - contrast) * mean_grey, 0.0)
        matrix, of_mean = step @ matrix, step @ of_mean + shift
    unchanged = ~draw.bernoulli(options.jitter)[:, None, None]
    matrix, of_mean = torch.where(unchanged, eye, matrix), torch.where(unchanged, 0.0, of_mean)
    is_grey = draw.bernoulli(options.grey)[:, None, None]
    return torch.where(is_grey, to_grey @ matrix, matrix), torch.where(is_grey, to_grey @ of_mean, of_mean)


def _rotation_of_hue(angle: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that rotate the plane of I and Q by angles (n,) in radians."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = ([one, zero, zero], [zero, cos, -sin], [zero, sin, cos])
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _blur_matrix(size: int, sigma: Tensor) -> Tensor:
    """Return matrices (n, size, size): a Gaussian along one side, or the identity. Weights sum to 1, also at edges.

    `sigma` (n,) is in pixels.
    """
    pixels = torch.arange(size, device=sigma.device)
    distance = (pixels[:, None] - pixels[None, :]).float()
    weights = torch.exp(-0.5 * (distance / sigma[:, None, None]) ** 2)
    return weights / weights.sum(2, keepdim=True)
