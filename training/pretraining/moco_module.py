"""MoCo as pytorch-lightning trains it: data, optimiser, and one step."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.pretraining.batches import Batch, Batches, Rows, Schedule, Selection
from taxonomist.training.pretraining.contrastive_views import random_views
from taxonomist.training.pretraining.moco import MoCo
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions

_SHARE_OF_MEMORY = 0.5  # of what a GPU has free, for the pictures
_LOCAL_SCALES = (0.05, 0.2)  # area of the small views, beside those of the large ones (Caron et al. 2020)


class Contrast(pl.LightningModule):
    """A pre-training of `recipe` on n `pictures`, whose groups are `groups` (n,).

    All chance is drawn from the seed and the number of the step, so that nothing depends on where a run was broken.
    """

    def __init__(
        self,
        pictures: Selection,
        recipe: Recipe,
        groups: Rows | None,
        steps_a_leg: int,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        built = build_backbone(BackboneSpec(recipe.architecture, recipe.weights, recipe.seed, recipe.size))
        self.origin = built.origin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.moco = MoCo(
                built.module.encoder.train(),
                built.module.dimension,
                queue=recipe.queue_for(len(pictures)),
                temperature=recipe.temperature,
                key_momentum=recipe.key_momentum,
                projection=recipe.projection,
                hidden=recipe.hidden,
                head_norm=recipe.head_norm,
                shuffle_groups=recipe.shuffle_groups,
                symmetric=recipe.symmetric,
            )
        self.moco.to(memory_format=torch.channels_last)
        self.steps_per_epoch = max(1, len(pictures) // recipe.batch)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self._pictures = pictures
        self._groups = groups if recipe.positives == "group" else None
        self.steps_a_leg = steps_a_leg
        self._resident: Tensor | None = None

    # --- data

    def on_fit_start(self) -> None:
        """Put the pictures on the device when they fit."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self._pictures.nbytes < _SHARE_OF_MEMORY * free:
                self._resident = self._pictures.on(self.device)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batches of the next leg."""
        start = self.trainer.global_step
        stop = min(start + self.steps_a_leg, self.total_steps)
        share = (self.trainer.global_rank, self.trainer.world_size)
        schedule = Schedule(len(self._pictures), self.recipe.batch, self.recipe.seed, self._groups, share)
        if self.device.type == "cuda" and self._resident is None:
            batches = Batches(self._pictures, schedule, start, stop)
            return DataLoader(batches, batch_size=None, num_workers=1, pin_memory=True, prefetch_factor=4)
        at_hand = None if self._resident is not None else self._pictures
        return DataLoader(Batches(at_hand, schedule, start, stop), batch_size=None)

    # --- training

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        """Loss of one step."""
        step, ids, queries, keys = batch
        recipe = self.recipe
        seed = int(np.random.SeedSequence([recipe.seed, step, self.trainer.global_rank]).generate_state(1)[0])
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        if self._resident is not None:
            queries, keys = self._resident[queries], self._resident[keys]
        size = self.size_at(step)
        with torch.autocast(self.device.type, enabled=False):
            first = random_views(queries, size, recipe.views, generator)
            second = random_views(keys, size, recipe.views, generator)
            small = [
                random_views(keys, recipe.local_size, _local(recipe.views), generator)
                for _ in range(recipe.local_views)
            ]
        self.moco.follow()
        loss, projected = self.moco(first, second, ids, small)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(ids))
        self.log("spread", spread(projected), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(ids))
        return loss  # type: ignore[no-any-return]

    def size_at(self, step: int) -> int:
        """Side of the views of a step, in pixels."""
        sizes = (*self.recipe.sizes, self.recipe.size)
        return sizes[min(step * len(sizes) // self.total_steps, len(sizes) - 1)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Begin a whole leg: Lightning takes a checkpoint from the end of one for a broken one otherwise."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["current"] = dict.fromkeys(progress["current"], 0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD whose rate rises shortly, then falls as a cosine; biases and batch norms do not decay."""
        recipe = self.recipe
        trained = [parameter for parameter in self.moco.parameters() if parameter.requires_grad]
        groups = [
            {"params": [each for each in trained if each.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser: torch.optim.Optimizer
        if recipe.optimiser == "sgd":
            optimiser = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.sgd_momentum)
        else:
            optimiser = torch.optim.AdamW(groups, lr=recipe.lr)
        warmup = max(1, int(recipe.warmup * self.total_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, self.total_steps - warmup))))

        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": LambdaLR(optimiser, factor), "interval": "step"},
        }

    def encoder_state(self) -> dict[str, Tensor]:
        """Weights of the query encoder, by the names that a backbone file has."""
        return {
            f"encoder.{name}": value.detach().cpu().contiguous() for name, value in self.encoder.state_dict().items()
        }

    @property
    def encoder(self) -> nn.Module:
        """The query encoder, which is what remains of a pre-training."""
        return self.moco.backbone


def spread(projected: Tensor) -> Tensor:
    """How evenly vectors of length 1 (n, d) fill the sphere: 1 evenly, 0 when all are the same."""
    even: Tensor = projected.std(0).mean() * projected.shape[1] ** 0.5
    return even


def _local(views: ViewOptions) -> ViewOptions:
    return replace(views, min_scale=_LOCAL_SCALES[0], max_scale=_LOCAL_SCALES[1])
