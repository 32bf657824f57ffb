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
from taxonomist.training.pretraining.batches import Batch, Batches, BatchSchedule, ImageSelection, RowIndices
from taxonomist.training.pretraining.contrastive_views import contrastive_views
from taxonomist.training.pretraining.moco import MoCo
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions

_SHARE_OF_MEMORY = 0.5  # of a GPU's free memory that the images may take
_LOCAL_SCALES = (0.05, 0.2)  # area of the small views, beside the large ones; https://arxiv.org/abs/2006.09882


class MoCoModule(pl.LightningModule):
    """A pre-training by `recipe` on n `images`, whose groups are `groups` (n,).

    The steps are divided into segments of `segment_steps`, after each of which a checkpoint is written. All randomness
    is drawn from the seed and the number of the step, so that an interruption changes nothing.
    """

    def __init__(
        self,
        images: ImageSelection,
        recipe: Recipe,
        groups: RowIndices | None,
        segment_steps: int,
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
                queue_size=recipe.queue_for(len(images)),
                temperature=recipe.temperature,
                key_momentum=recipe.key_momentum,
                projection=recipe.projection,
                hidden=recipe.hidden,
                head_norm=recipe.head_norm,
                shuffle_groups=recipe.shuffle_groups,
                symmetric=recipe.symmetric,
            )
        self.moco.to(memory_format=torch.channels_last)
        self.steps_per_epoch = max(1, len(images) // recipe.batch)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.segment_steps = segment_steps
        self._images = images
        self._groups = groups if recipe.positives == "group" else None
        self._images_on_device: Tensor | None = None  # uint8 (n, s, s, 3)

    # --- data

    def on_fit_start(self) -> None:
        """Copy the images to the GPU when they fit."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self._images.nbytes < _SHARE_OF_MEMORY * free:
                self._images_on_device = self._images.on(self.device)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches of the next segment."""
        start = self.trainer.global_step
        stop = min(start + self.segment_steps, self.total_steps)
        schedule = BatchSchedule(
            len(self._images),
            self.recipe.batch,
            self.recipe.seed,
            self._groups,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        if self.device.type == "cuda" and self._images_on_device is None:
            batches = Batches(self._images, schedule, start, stop)
            return DataLoader(batches, batch_size=None, num_workers=1, pin_memory=True, prefetch_factor=4)
        images = None if self._images_on_device is not None else self._images
        return DataLoader(Batches(images, schedule, start, stop), batch_size=None)

    # --- training

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        """Return the loss of one step."""
        step, ids, queries, keys = batch
        recipe = self.recipe
        seed = int(np.random.SeedSequence([recipe.seed, step, self.trainer.global_rank]).generate_state(1)[0])
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        if self._images_on_device is not None:  # the batch brings rows instead of images
            queries, keys = self._images_on_device[queries], self._images_on_device[keys]
        size = self.size_at(step)
        with torch.autocast(self.device.type, enabled=False):
            x_q = contrastive_views(queries, size, recipe.views, generator)  # (n, 3, size, size)
            x_k = contrastive_views(keys, size, recipe.views, generator)  # (n, 3, size, size)
            local_options = _local_options(recipe.views)
            local = [
                contrastive_views(keys, recipe.local_size, local_options, generator) for _ in range(recipe.local_views)
            ]
        self.moco.momentum_update()
        loss, q = self.moco(x_q, x_k, ids, local)
        metrics = {"loss": loss, "projection_std": projection_std(q)}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(ids))
        return loss  # type: ignore[no-any-return]

    def size_at(self, step: int) -> int:
        """Return the side of the views of a step, in pixels."""
        sizes = (*self.recipe.sizes, self.recipe.size)
        return sizes[min(step * len(sizes) // self.total_steps, len(sizes) - 1)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Begin with a whole segment: Lightning takes a checkpoint from the end of one for an interrupted one."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["current"] = dict.fromkeys(progress["current"], 0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser, whose learning rate rises shortly and then falls as a cosine.

        Biases and batch norms, the parameters of one dimension, do not decay.
        """
        recipe = self.recipe
        trained = [parameter for parameter in self.moco.parameters() if parameter.requires_grad]
        groups = [
            {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
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
        """Return the weights of the query encoder, by the names that they have in a backbone file."""
        return {
            f"encoder.{name}": value.detach().cpu().contiguous() for name, value in self.encoder.state_dict().items()
        }

    @property
    def encoder(self) -> nn.Module:
        """The query encoder, which is what remains of a pre-training."""
        return self.moco.backbone


def projection_std(projections: Tensor) -> Tensor:
    """Return how evenly vectors (n, c) of length 1 fill the sphere: 1 when evenly, 0 when all are the same.

    It is their standard deviation, a mean over the c dimensions, times sqrt(c); see Chen and He 2021, Exploring simple
    Siamese representation learning, section 4.1, https://arxiv.org/abs/2011.10566.
    """
    normalised: Tensor = projections.std(0).mean() * projections.shape[1] ** 0.5
    return normalised


def _local_options(options: ViewOptions) -> ViewOptions:
    return replace(options, min_scale=_LOCAL_SCALES[0], max_scale=_LOCAL_SCALES[1])
