"""How a head of two layers is trained, and what its training gives. No torch."""

from dataclasses import dataclass
from typing import Literal

from taxonomist.inference.heads.head_weights import HeadWeights

Imbalance = Literal["none", "oversample", "weights"]


@dataclass(frozen=True)
class HeadOptions:
    """How a head is trained. Times are in epochs, `hidden` is a width, `batch` counts images."""

    hidden: int = 256
    dropout: float = 0.5
    batch_norm: bool = False  # before the ReLU (thesis, chapter 7); folded into the first layer when the head is kept
    lr: float = 4e-3
    weight_decay: float = 0.05
    epochs: int = 30  # at most; also the length of the cosine schedule
    patience: int = 6  # epochs without a better validation loss before the training stops
    batch: int = 256  # at most; for few images batches are smaller, so that an epoch has about 16 steps
    imbalance: Imbalance = "oversample"
    seed: int = 0
    threads: int | None = None  # None: half of the cores; see `threads_for`


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curves: mean loss per image, and accuracy at level 1. NaN without validation.

    `refined_loss` is the validation loss at the temperature that minimises it.
    """

    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    refined_loss: float


@dataclass(frozen=True)
class TrainedHead:
    """A head with the weights of the epoch number `best` (from 0) of `curves`."""

    weights: HeadWeights
    curves: tuple[Epoch, ...]
    best: int
