"""How good an embedding is for products that take no part in the training: what chooses the best moment of a run."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from taxonomist.training.backbones.architectures import Architecture
from taxonomist.training.pretraining.contrastive_views import normalise

_BATCH = 256
_LEAST_STD = 0.01  # as a share of the mean
_RIDGE = 0.3  # of the number of images: how much the linear probe is regularised


@dataclass(frozen=True)
class Probe:
    """Images uint8 (n, s, s, 3) of held-out products, and labelled ones from which a linear probe learns.

    `labels` (n,) are numbers of classes, -1 without one; `groups` (n,) are numbers of products; `held_out` (n,) says
    which images show products that take no part in the training, None: all of them.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_] | None = None

    @property
    def is_held_out(self) -> npt.NDArray[np.bool_]:
        """(n,): whether the image shows a product that takes no part in the training."""
        return np.ones(len(self.images), np.bool_) if self.held_out is None else self.held_out

    @property
    def queries(self) -> npt.NDArray[np.int64]:
        """Rows of the held-out images that share their product with another one."""
        rows = np.flatnonzero(self.is_held_out)
        _, product, count = np.unique(self.groups[rows], return_inverse=True, return_counts=True)
        return rows[count[product] > 1] if len(count) > 1 else rows[:0]

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The classes that labelled images teach and held-out ones ask for; none if there are fewer than two."""
        labelled = self.labels >= 0
        known = np.intersect1d(self.labels[labelled & self.is_held_out], self.labels[labelled & ~self.is_held_out])
        return known if len(known) > 1 else known[:0]

    @property
    def can_score(self) -> bool:
        """Whether there is anything to compute a score from."""
        return bool(len(self.queries) or len(self.classes))


def embed(
    encoder: nn.Module,
    architecture: Architecture,
    images: npt.NDArray[np.uint8],
    device: torch.device,
    *,
    bfloat16: bool = False,
) -> Tensor:
    """Return embeddings float32 (n, d) by an encoder in evaluation mode; its former mode is restored afterwards."""
    training = encoder.training
    encoder.eval()
    embeddings = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(device)
            x = normalise(batch.permute(0, 3, 1, 2).float() / 255, architecture)
            embeddings.append(encoder(x.contiguous(memory_format=torch.channels_last)).float())
    encoder.train(training)
    return torch.cat(embeddings)


def held_out_score(embeddings: Tensor, probe: Probe) -> float:
    """Return how good embeddings (n, d) are for held-out products, 0..1: the mean of `product_retrieval` and
    `linear_probe`, or the one of them that the probe's images allow.
    """
    scores = []
    if len(probe.queries):
        scores.append(product_retrieval(embeddings, probe))
    if len(probe.classes):
        scores.append(linear_probe(embeddings, probe))
    return sum(scores) / len(scores)


def product_retrieval(embeddings: Tensor, probe: Probe) -> float:
    """Return R@1: in which share of the `queries` the nearest other held-out image shows the same product."""
    rows = torch.from_numpy(np.flatnonzero(probe.is_held_out)).to(embeddings.device)
    groups = torch.from_numpy(probe.groups).to(embeddings.device)
    unit = normalize(embeddings, dim=1)
    hits = 0
    for start in range(0, len(probe.queries), _BATCH):
        queries = torch.from_numpy(probe.queries[start : start + _BATCH]).to(embeddings.device)
        cosines = (unit[queries] @ unit[rows].T).masked_fill(queries[:, None] == rows, -torch.inf)  # (batch, held out)
        hits += int((groups[rows[cosines.argmax(1)]] == groups[queries]).sum())
    return hits / len(probe.queries)


def linear_probe(embeddings: Tensor, probe: Probe) -> float:
    """Return the macro-F1 on held-out images of a ridge regression that has learned from the others.

    Each class has the same weight, and the embeddings are standardised. Labels outside `classes` do not count.
    """
    counts = np.isin(probe.labels, probe.classes)
    learn = torch.from_numpy(np.flatnonzero(counts & ~probe.is_held_out)).to(embeddings.device)
    test = torch.from_numpy(np.flatnonzero(counts & probe.is_held_out)).to(embeddings.device)
    numbers = np.searchsorted(probe.classes, probe.labels)
    y = torch.from_numpy(np.where(counts, numbers, 0)).to(embeddings.device)
    mean, std = embeddings[learn].mean(0), embeddings[learn].std(0)
    std = std.clamp_min(_LEAST_STD * float(std.mean()) + 1e-12)  # a number that is all but constant is not blown up
    x, x_test = (embeddings[learn] - mean) / std, (embeddings[test] - mean) / std
    count = torch.bincount(y[learn], minlength=len(probe.classes))
    weight = (len(learn) / (count * len(count)))[y[learn]][:, None]
    target = one_hot(y[learn], len(count)).float() * 2 - 1
    offset = target.mean(0)
    gram = x.T @ (weight * x) + _RIDGE * len(x) * torch.eye(x.shape[1], device=x.device)
    guess = (x_test @ torch.linalg.solve(gram, x.T @ (weight * (target - offset))) + offset).argmax(1)
    return float(f1_score(y[test].cpu().numpy(), guess.cpu().numpy(), average="macro", zero_division=0.0))
