"""How good an embedding is for the labels there are, without training anything: a vote of nearest neighbours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import normalize

from taxonomist.training.pretraining.contrastive_views import normalise

_NEIGHBOURS = 10
_SHARPNESS = 10.0  # a neighbour's vote weighs exp(sharpness * cosine)
_BATCH = 256


@dataclass(frozen=True)
class Probe:
    """Labelled pictures uint8 (n, s, s, 3) with the number of their class and of their group, each (n,).

    Pictures of one group (a product) do not vote for each other: to know the product again is no merit.
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


def embed(encoder: nn.Module, pictures: npt.NDArray[np.uint8], device: torch.device, *, half: bool = False) -> Tensor:
    """Embeddings float32 (n, d) by an encoder in evaluation mode, which is put back into its former mode."""
    training = encoder.training
    encoder.eval()
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        for start in range(0, len(pictures), _BATCH):
            batch = torch.from_numpy(np.array(pictures[start : start + _BATCH])).to(device)
            x = normalise(batch.permute(0, 3, 1, 2).float() / 255)
            rows.append(encoder(x.contiguous(memory_format=torch.channels_last)).float())
    encoder.train(training)
    return torch.cat(rows)


def neighbour_score(embeddings: Tensor, probe: Probe) -> float:
    """Macro-F1 of a vote of the nearest pictures of other groups; 0..1."""
    unit = normalize(embeddings, dim=1)
    labels = torch.from_numpy(probe.labels).to(unit.device)
    groups = torch.from_numpy(probe.groups).to(unit.device)
    votes = torch.zeros(len(labels), int(probe.labels.max()) + 1, device=unit.device)
    for start in range(0, len(unit), _BATCH):
        rows = slice(start, start + _BATCH)
        cosines = (unit[rows] @ unit.T).masked_fill(groups[rows, None] == groups, -torch.inf)
        near = cosines.topk(min(_NEIGHBOURS, len(unit)), dim=1)
        votes[rows] = votes[rows].scatter_add(1, labels[near.indices], torch.exp(_SHARPNESS * near.values))
    return float(f1_score(probe.labels, votes.argmax(1).cpu().numpy(), average="macro", zero_division=0.0))
