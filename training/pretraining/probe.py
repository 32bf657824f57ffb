"""How good an embedding is for the existing labels, without training anything: a vote of nearest neighbours.

The vote is that of Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination, section
3.4, https://arxiv.org/abs/1805.01978.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import normalize

from taxonomist.training.backbones.architectures import Architecture
from taxonomist.training.pretraining.contrastive_views import normalise

_NEIGHBOURS = 10
_SHARPNESS = 10.0  # a neighbour's vote weighs exp(sharpness * cosine)
_BATCH = 256


@dataclass(frozen=True)
class Probe:
    """Labelled images uint8 (n, s, s, 3) with the number of their class and of their group, each (n,).

    Images of one group (a product) do not vote for each other: recognising the same product is too easy.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


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


def neighbour_score(embeddings: Tensor, probe: Probe) -> float:
    """Return the macro-F1, 0..1, of a vote of the nearest images of other groups, for embeddings (n, d)."""
    unit = normalize(embeddings, dim=1)
    labels = torch.from_numpy(probe.labels).to(unit.device)
    groups = torch.from_numpy(probe.groups).to(unit.device)
    votes = torch.zeros(len(labels), int(probe.labels.max()) + 1, device=unit.device)  # (n, classes)
    for start in range(0, len(unit), _BATCH):
        rows = slice(start, start + _BATCH)
        cosines = (unit[rows] @ unit.T).masked_fill(groups[rows, None] == groups, -torch.inf)  # (batch, n)
        near = cosines.topk(min(_NEIGHBOURS, len(unit)), dim=1)
        votes[rows] = votes[rows].scatter_add(1, labels[near.indices], torch.exp(_SHARPNESS * near.values))
    return float(f1_score(probe.labels, votes.argmax(1).cpu().numpy(), average="macro", zero_division=0.0))
