"""Train the last blocks of a backbone, too, instead of leaving all of it frozen (thesis, section 7.2)."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.devices import default_device
from taxonomist.training.heads.loss import SiblingCrossEntropy
from taxonomist.training.heads.targets import Outputs, balance
from taxonomist.training.study.contestants import TorchEmbed, at_size
from taxonomist.training.study.data import Labelled
from taxonomist.training.study.split import Split
from taxonomist.training.study.vectors import shown_pictures

_CHUNK = 64


@dataclass(frozen=True)
class TuneOptions:
    """How the blocks are trained; one linear layer stands in for the head meanwhile."""

    blocks: int
    views: int = 4
    epochs: int = 20
    patience: int = 5
    lr: float = 1e-4  # ten times that spoils a random backbone (measured)
    head_lr: float = 4e-3
    weight_decay: float = 0.05
    batch: int = 16
    oversample: bool = False
    seed: int = 0


def fine_tune(backbone: Backbone, size: int, labelled: Labelled, split: Split, options: TuneOptions) -> TorchEmbed:
    """Embed with a copy of `backbone` whose last blocks have learned the training labels on all levels of the tree.

    `size` is the side of the pictures that it sees, in pixels. The frozen part runs once for each picture and view;
    batch norm keeps its statistics, which a few hundred pictures would only spoil. The epoch with the lowest
    validation loss is kept. Raises ConfigError when the backbone has fewer blocks.
    """
    tuner = _Tuner(deepcopy(backbone), size, labelled, options)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        tuner.run(split)
    return TorchEmbed(tuner.backbone, size)


class _Tuner:
    def __init__(self, backbone: Backbone, size: int, labelled: Labelled, options: TuneOptions) -> None:
        self.device = default_device()
        self.backbone = backbone.to(self.device).eval()
        self.front, self.back = self.backbone.cut(options.blocks)
        self.size, self.labelled, self.options = size, labelled, options
        self.outputs = Outputs((labelled.tree,))
        self.random = np.random.default_rng(options.seed)

    def run(self, split: Split) -> float:
        """Leave the weights of the best epoch in `backbone`; returns its validation loss, the mean of a picture."""
        options = self.options
        maps, targets = self._maps(split.train, options.views), self._targets(split.train)
        self.loss = SiblingCrossEntropy(torch.from_numpy(self.outputs.group_of)).to(self.device)
        linear = nn.Linear(self.backbone.dimension, len(self.outputs))
        self.network = nn.Sequential(self.back, self._standardise(maps[:, 0]), linear).to(self.device).eval()
        seen = targets.any(axis=0)
        validation = self._maps(split.validation, 0), torch.from_numpy(self._targets(split.validation) * seen)
        weights = balance(targets, self.outputs) if options.oversample else np.ones(len(targets))
        rates = ((self.back, options.lr), (linear, options.head_lr))
        groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in rates]
        optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
        best, lowest, since = self._state(), float("inf"), 0
        for _ in range(options.epochs):
            self._epoch(optimiser, maps, torch.from_numpy(targets), weights / weights.sum())
            schedule.step()
            loss = self._validate(*validation)
            since += 1
            if loss < lowest:
                best, lowest, since = self._state(), loss, 0
            if since >= options.patience:
                break
        self.back.load_state_dict(best)
        return lowest

    @torch.no_grad()
    def _standardise(self, maps: Tensor) -> nn.BatchNorm1d:
        """Embeddings as the head sees them: each number by its mean and spread before the tuning. A batch norm that is
        never trained; untreated, those of a weak backbone differ so little that the blocks only learn to see less."""
        parts = (maps[start : start + _CHUNK] for start in range(0, len(maps), _CHUNK))
        vectors = torch.cat([self.back(part.to(self.device).float()) for part in parts])
        norm = nn.BatchNorm1d(self.backbone.dimension, affine=False)
        norm.running_mean, norm.running_var = vectors.mean(0), vectors.var(0)
        return norm

    def _epoch(
        self, optimiser: torch.optim.Optimizer, maps: Tensor, targets: Tensor, share: npt.NDArray[np.float64]
    ) -> None:
        """As many pictures as there are, by their share; each itself or, every other time, one of its views."""
        count = len(targets)
        drawn = self.random.choice(count, count, replace=self.options.oversample, p=share)
        view = self.random.integers(1, maps.shape[1], count) if maps.shape[1] > 1 else np.zeros(count, np.int64)
        view = np.where(self.random.random(count) < 0.5, view, 0)
        for part in np.array_split(np.arange(count), -(-count // self.options.batch)):
            x = maps[drawn[part], view[part]].to(self.device).float()
            loss = self.loss(self.network(x), targets[drawn[part]].to(self.device)) / len(part)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.inference_mode()
    def _validate(self, maps: Tensor, targets: Tensor) -> float:
        total = 0.0
        for start in range(0, len(maps), _CHUNK):
            logits = self.network(maps[start : start + _CHUNK, 0].to(self.device).float())
            total += float(self.loss(logits, targets[start : start + _CHUNK].to(self.device)))
        return total / len(maps)

    @torch.no_grad()
    def _maps(self, positions: npt.NDArray[np.int64], views: int) -> Tensor:
        """What the frozen part makes of pictures and views: half precision (n, 1 + views, channels, h, w)."""
        maps = []
        for shown in shown_pictures(self.labelled, positions.tolist(), views):
            pictures = torch.from_numpy(at_size(shown, self.size)).to(self.device)
            maps.append(self.front(self.backbone.normalise(pictures)).half().cpu())
        return torch.stack(maps)

    def _targets(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        control = self.labelled.tree.control
        return self.outputs.encode([{control: (self.labelled.paths[position],)} for position in positions])

    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.back.state_dict().items()}
