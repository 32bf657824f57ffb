"""Training of the classifier head: linear, ReLU, dropout, linear on stored embeddings (thesis, section 5.2.3)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.heads.data.targets import HeadData, Outputs, Vectors, balance, check_finite
from taxonomist.training.heads.head_options import Epoch, HeadOptions, Imbalance, TrainedHead
from taxonomist.training.heads.loss import SiblingCrossEntropy

__all__ = ["Epoch", "HeadOptions", "Imbalance", "TrainedHead", "threads_for", "train_head"]


def train_head(
    data: HeadData,
    outputs: Outputs,
    options: HeadOptions,
    validation: HeadData | None = None,
    *,
    on_epoch: CountProgress = ignore_counts,
) -> TrainedHead:
    """Train a head on `data`; keep the epoch with the lowest refined loss on `validation`, or the last one without it.

    The plain validation loss rises as soon as the head becomes overconfident, long before its ranking is at its best,
    and the calibration corrects confidence afterwards. The loss is therefore computed after temperature scaling (Berta
    et al. 2025, Rethinking early stopping: refine, then calibrate, https://arxiv.org/abs/2501.19195). Nodes without a
    training image are excluded from it: no epoch learns them, yet their loss would grow and stop the training early.

    `on_epoch` is called after each epoch. The same data, options and machine give the same weights. Raises
    TrainingError when there is nothing to learn or a number is not finite.
    """
    if not len(data.targets) or not data.targets.any():
        raise TrainingError("There is no labelled image to train the head on.")
    check_finite(data.vectors)
    with _threads(threads_for(options)), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return _Trainer(data, outputs, options, validation).run(on_epoch)


class _Trainer:
    def __init__(self, data: HeadData, outputs: Outputs, options: HeadOptions, validation: HeadData | None) -> None:
        self.options, self.outputs = options, outputs
        first = np.searchsorted(data.owners, np.arange(len(data.targets)))
        self.first_row, self.row_count = first, np.diff(np.append(first, len(data.owners)))
        originals = data.vectors[first]
        self.mean = originals.mean(axis=0)
        self.scale = originals.std(axis=0) + 1e-6
        self.x = self._standardise(data.vectors)
        self.targets = torch.from_numpy(data.targets)
        self.weights = balance(data.targets, outputs)
        self.random = np.random.default_rng(options.seed)
        self.loss = SiblingCrossEntropy(torch.from_numpy(outputs.group_of))
        self.network = nn.Sequential(
            nn.Linear(data.vectors.shape[1], options.hidden),
            *([nn.BatchNorm1d(options.hidden)] if options.batch_norm else []),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, len(outputs)),
        )
        self.batch = min(options.batch, max(16, len(data.targets) // 16))
        # A moving average over about the last epoch: single epochs differ by chance, and the best would be a lucky one.
        decay = 1 - self.batch / max(len(data.targets), 2 * self.batch)
        averaging = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=averaging, use_buffers=True)
        self.temperature = 1.0
        self.validation: tuple[Tensor, Tensor] | None = None
        if validation is not None and len(validation.targets):
            seen = data.targets.any(axis=0)
            self.validation = self._standardise(validation.vectors), torch.from_numpy(validation.targets * seen)

    def run(self, on_epoch: CountProgress) -> TrainedHead:
        options = self.options
        optimiser = torch.optim.AdamW(
            self.network.parameters(), options.lr, weight_decay=options.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
        curves: list[Epoch] = []
        best, weights = 0, None
        for number in range(options.epochs):
            curves.append(Epoch(*self._train_epoch(optimiser), *self._validate()))
            if not np.isfinite(curves[-1].train_loss):
                raise TrainingError(
                    f"The loss is not finite after epoch {number + 1}.", hint="Try a smaller TAXONOMIST_HEAD_HIDDEN."
                )
            schedule.step()
            if weights is None or self.validation is None or curves[-1].refined_loss < curves[best].refined_loss:
                best, weights = number, self._weights()
            on_epoch(number + 1, options.epochs)
            if number - best >= options.patience:
                break
        return TrainedHead(weights or self._weights(), tuple(curves), best)

    def _train_epoch(self, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
        """Train for one epoch; return mean loss and level-1 accuracy over it."""
        self.network.train()
        images = self._draw_images()
        rows = self._draw_rows(images)
        total, hits = 0.0, 0.0
        for part in np.array_split(np.arange(len(images)), -(-len(images) // self.batch)):
            targets = self.targets.index_select(0, torch.from_numpy(images[part]))
            if self.options.imbalance == "weights":
                targets = targets * torch.from_numpy(self.weights[images[part]]).float()[:, None]
            logits = self.network(self.x.index_select(0, torch.from_numpy(rows[part])))
            loss = self.loss(logits, targets)
            optimiser.zero_grad()
            (loss / len(part)).backward()
            optimiser.step()
            self.average.update_parameters(self.network)
            total += float(loss.detach())
            hits += len(part) * self._accuracy(logits.detach(), targets)
        return total / len(images), hits / len(images)

    def _draw_images(self) -> npt.NDArray[np.int64]:
        """Return the images of an epoch, shuffled: each once, or, when oversampling, in proportion to its weight.

        By systematic sampling (https://en.wikipedia.org/wiki/Systematic_sampling) an image of weight w is drawn
        floor(w) or ceil(w) times. An epoch has the same length in both cases; augmented views make the copies differ.
        """
        count = len(self.targets)
        if self.options.imbalance != "oversample":
            return self.random.permutation(count)
        edges = np.cumsum(self.weights)
        images = np.searchsorted(edges, self.random.random() + np.arange(count)).clip(max=count - 1)
        return self.random.permutation(images)

    def _draw_rows(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each drawn image its own row or, with probability 0.5, that of one of its views.

        Serving sees images only, never views.
        """
        views = self.row_count[images] - 1
        view_number = 1 + self.random.integers(0, np.maximum(views, 1))
        as_view = (self.random.random(len(images)) < 0.5) & (views > 0)
        rows: npt.NDArray[np.int64] = self.first_row[images] + np.where(as_view, view_number, 0)
        return rows

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float, float]:
        """Return loss, level-1 accuracy and refined loss on the validation part."""
        if self.validation is None:
            return float("nan"), float("nan"), float("nan")
        x, targets = self.validation
        logits = self.average.eval()(x)
        # The best temperature rises slowly from epoch to epoch; trying its neighbours is enough to follow it.
        losses = {
            t: float(self.loss(logits / t, targets)) for t in (self.temperature * step for step in (0.87, 1, 1.15))
        }
        self.temperature = min(losses, key=lambda t: losses[t])
        loss = float(self.loss(logits, targets))
        return loss / len(x), self._accuracy(logits, targets), losses[self.temperature] / len(x)

    def _accuracy(self, logits: Tensor, targets: Tensor) -> float:
        """Return the share of labelled images, over all controls, whose most likely level-1 node is one of theirs."""
        hits = labelled = 0.0
        for top in self.outputs.tops:
            is_true = targets[:, top] > 0  # (n, level-1 nodes)
            hits += float(is_true.gather(1, logits[:, top].argmax(1, keepdim=True)).sum())
            labelled += float(is_true.any(1).sum())
        return hits / labelled if labelled else float("nan")

    def _standardise(self, vectors: Vectors) -> Tensor:
        return torch.from_numpy(((vectors - self.mean) / self.scale).astype(np.float32))

    def _weights(self) -> HeadWeights:
        layers = list(self.average.module.eval().children())
        if isinstance(layers[0], nn.Linear) and isinstance(layers[1], nn.BatchNorm1d):
            layers[:2] = [fuse_linear_bn_eval(layers[0], layers[1])]
        weight1, bias1, weight2, bias2 = (
            tensor.detach().numpy().copy() for layer in layers for tensor in layer.parameters()
        )
        controls = tuple((tree.control, len(tree)) for tree in self.outputs.trees)
        return HeadWeights(self.mean, self.scale, weight1, bias1, weight2, bias2, controls)


def threads_for(options: HeadOptions) -> int:
    """Return the number of threads to train with: that of the options, else half of the cores.

    Torch's threads wait for each other at every operation: on two cores that other processes use, too, two threads took
    five times as long as one (measured).
    """
    return options.threads or max(1, (os.cpu_count() or 2) // 2)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
