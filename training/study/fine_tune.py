"""Fine-tuning: the last blocks of a backbone are trained, too, instead of keeping all frozen (thesis, section 7.2)."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.devices import default_device
from taxonomist.training.heads.data.targets import Outputs, balance
from taxonomist.training.heads.loss import SiblingCrossEntropy
from taxonomist.training.study.contestants import TorchEmbed, at_size
from taxonomist.training.study.embeddings import images_with_views
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.split import Split

_CHUNK = 64


@dataclass(frozen=True)
class TuneOptions:
    """How the last `blocks` are trained, with a linear layer in place of the head.

    `views` counts augmented views of each image; `patience` counts epochs without a lower validation loss.
    """

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


def fine_tune(
    backbone: Backbone, size: int, labelled: LabelledImages, split: Split, options: TuneOptions
) -> TorchEmbed:
    """Return a copy of `backbone` whose last blocks have learned the training labels on all levels of the tree.

    `size` is the side of its images in pixels. The frozen part runs once for each image and view; batch norm keeps its
    statistics, since those of a few hundred images are worse. The epoch with the lowest validation loss is kept. Raises
    ConfigError when the backbone has fewer blocks.
    """
    tuner = _Tuner(deepcopy(backbone), size, labelled, options)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        tuner.run(split)
    return TorchEmbed(tuner.backbone, size)


class _Tuner:
    def __init__(self, backbone: Backbone, size: int, labelled: LabelledImages, options: TuneOptions) -> None:
        self.device = default_device()
        self.backbone = backbone.to(self.device).eval()
        self.frozen, self.tuned = self.backbone.cut(options.blocks)
        self.size, self.labelled, self.options = size, labelled, options
        self.outputs = Outputs((labelled.tree,))
        self.random = np.random.default_rng(options.seed)

    def run(self, split: Split) -> float:
        """Leave the weights of the best epoch in `backbone`; return its validation loss, a mean over the images."""
        options = self.options
        maps, targets = self._feature_maps(split.train, options.views), self._targets(split.train)
        self.loss = SiblingCrossEntropy(torch.from_numpy(self.outputs.group_of)).to(self.device)
        linear = nn.Linear(self.backbone.dimension, len(self.outputs))
        self.network = nn.Sequential(self.tuned, self._standardise(maps[:, 0]), linear).to(self.device).eval()
        seen = targets.any(axis=0)
        validation = self._feature_maps(split.validation, 0), torch.from_numpy(self._targets(split.validation) * seen)
        weights = balance(targets, self.outputs) if options.oversample else np.ones(len(targets))
        rates = ((self.tuned, options.lr), (linear, options.head_lr))
        groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in rates]
        optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
        best, lowest, epochs_since_best = self._state(), float("inf"), 0
        for _ in range(options.epochs):
            self._epoch(optimiser, maps, torch.from_numpy(targets), weights / weights.sum())
            schedule.step()
            loss = self._validate(*validation)
            epochs_since_best += 1
            if loss < lowest:
                best, lowest, epochs_since_best = self._state(), loss, 0
            if epochs_since_best >= options.patience:
                break
        self.tuned.load_state_dict(best)
        return lowest

    @torch.no_grad()
    def _standardise(self, maps: Tensor) -> nn.BatchNorm1d:
        """Return a batch norm that is never trained: it standardises embeddings by the statistics before the tuning.

        `maps` are feature maps (n, channels, h, w) of images. Without it, embeddings of a weak backbone differ so
        little that the blocks learn to make them still more alike (measured).
        """
        parts = (maps[start : start + _CHUNK] for start in range(0, len(maps), _CHUNK))
        vectors = torch.cat([self.tuned(part.to(self.device).float()) for part in parts])
        norm = nn.BatchNorm1d(self.backbone.dimension, affine=False)
        norm.running_mean, norm.running_var = vectors.mean(0), vectors.var(0)
        return norm

    def _epoch(
        self, optimiser: torch.optim.Optimizer, maps: Tensor, targets: Tensor, share: npt.NDArray[np.float64]
    ) -> None:
        """Train on as many draws as there are images, in proportion to `share` (n,).

        A draw takes the image itself or, with probability 0.5, one of its views. `maps` is (n, 1 + views, channels, h,
        w), `targets` (n, nodes).
        """
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
    def _feature_maps(self, positions: npt.NDArray[np.int64], views: int) -> Tensor:
        """Return the output of the frozen part for images and views: float16 (n, 1 + views, channels, h, w)."""
        maps = []
        for images in images_with_views(self.labelled, positions.tolist(), views):
            batch = torch.from_numpy(at_size(images, self.size)).to(self.device)
            maps.append(self.frozen(self.backbone.normalise(batch)).half().cpu())
        return torch.stack(maps)

    def _targets(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        control = self.labelled.tree.control
        return self.outputs.encode([{control: (self.labelled.paths[position],)} for position in positions])

    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.tuned.state_dict().items()}
