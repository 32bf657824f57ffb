"""The sides of the pre-training benchmark: ours, lightly's, and the encoders alone. Each trains for some seconds."""

from __future__ import annotations

import copy
import gc
import logging
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.moco_transform import MoCoV2Transform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from taxonomist.inference.image_decoding import prepare_image
from taxonomist.training.pretraining.batches import RowIndices
from taxonomist.training.pretraining.loop import fast_kernels
from taxonomist.training.pretraining.pretrain import Interrupted, pretrain
from taxonomist.training.pretraining.recipe import Recipe
from taxonomist.training.pretraining.step import PretrainingStep, StepInputs

Numbers = dict[str, float]
SIDE = 160  # pixels of the files
LR, MOMENTUM, KEY_MOMENTUM, PROJECTION = 0.06, 0.9, 0.99, 128


@dataclass(frozen=True)
class Work:
    """What is measured: views of `size` pixels, `seconds` of training after `warm_up` steps, `images` files."""

    size: int
    batch: int
    queue: int
    seconds: float
    precision: str
    device: str
    workers: int
    images: int
    warm_up: int = 5


class Clock:
    """Counts steps from the end of the warm-up, and the seconds in which the training waited for data."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._steps = 0
        self._waited = self._before = self._started = self._ended = 0.0

    def step(self) -> bool:
        """Count a step; return whether it was the last one."""
        self._steps += 1
        now = time.perf_counter()
        if self._steps == self._work.warm_up:
            now = self._now()
            self._started, self._before = now, self._waited
        if self._steps <= self._work.warm_up or now - self._started < self._work.seconds:
            return False
        self._ended = self._now()
        return True

    def numbers(self) -> Numbers:
        seconds = self._ended - self._started
        rate = (self._steps - self._work.warm_up) * self._work.batch / seconds
        return {"rate": rate, "waiting": (self._waited - self._before) / seconds}

    @contextmanager
    def watching_data(self) -> Iterator[None]:
        """Count every wait for the next batch of any DataLoader, and of our own step, within the block."""
        plain = _BaseDataLoaderIter.__next__
        inputs = PretrainingStep.inputs

        def timed(loader: Any) -> Any:
            began = time.perf_counter()
            try:
                return plain(loader)
            finally:
                self._waited += time.perf_counter() - began

        def timed_inputs(step: PretrainingStep, start: int) -> Generator[StepInputs]:
            with closing(inputs(step, start)) as waiting:
                while True:
                    began = time.perf_counter()
                    try:
                        prepared = next(waiting)
                    except StopIteration:
                        return
                    self._waited += time.perf_counter() - began
                    yield prepared

        with (
            patch.object(_BaseDataLoaderIter, "__next__", timed),
            patch.object(PretrainingStep, "inputs", timed_inputs),
        ):
            yield

    def _now(self) -> float:
        if self._work.device == "cuda":
            torch.cuda.synchronize()  # launched kernels may still run
        return time.perf_counter()


def make_images(folder: Path, count: int) -> None:
    """Write JPEG files that cost as much to decode as photographs: shapes, shades and noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    down, right = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for number in range(count):
        canvas = random.uniform(0, 255, 3) + (down[..., None] - right[..., None]) * random.uniform(-90, 90, 3)
        for _ in range(6):
            (y, x), radius = random.uniform(0, 1, 2), random.uniform(0.05, 0.3)
            canvas[(down - y) ** 2 + (right - x) ** 2 < radius**2] = random.uniform(0, 255, 3)
        canvas += random.normal(0, 8, canvas.shape)
        Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=90)


def prepared(folder: Path, into: Path) -> Numbers:
    """Decode the files once, as `taxonomist data fetch` does, on one core; write (n, SIDE, SIDE, 3) to `into`."""
    files = sorted(folder.glob("*.jpg"))
    stored = np.memmap(into, np.uint8, "w+", shape=(len(files), SIDE, SIDE, 3))
    began = time.perf_counter()
    for row, file in enumerate(files):
        stored[row] = prepare_image(file.read_bytes(), SIDE)
    stored.flush()
    return {"rate": len(files) / (time.perf_counter() - began)}


def ours(work: Work, file: Path, recipe: Recipe | None = None, groups: RowIndices | None = None) -> Numbers:
    """Measure `pretrain` unchanged, checkpoints included; only the precision is set."""
    images = np.memmap(file, np.uint8, "r", shape=(work.images, SIDE, SIDE, 3))
    recipe = replace(recipe or recipe_of(work), epochs=100_000)
    clock = Clock(work)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("taxonomist.training.pretraining.pretrain.choose_precision", lambda device: work.precision),
        clock.watching_data(),
        suppress(Interrupted),
    ):
        pretrain(images, recipe, Path(folder), groups=groups, device=work.device, should_stop=clock.step)
    gc.collect()
    return clock.numbers()


def recipe_of(work: Work) -> Recipe:
    """Return the recipe that trains as the peer does."""
    return Recipe(
        size=work.size, batch=work.batch, queue=work.queue, lr=LR, key_momentum=KEY_MOMENTUM, projection=PROJECTION
    )


class Peer(pl.LightningModule):
    """MoCo v2 from lightly's parts, put together as its documentation does."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        network = torchvision.models.resnet18()
        self.backbone = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
        self.projection_head = MoCoProjectionHead(512, 512, PROJECTION)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(memory_bank_size=(work.queue, PROJECTION))

    def training_step(self, batch: Any, _number: int) -> Tensor:
        """Return the loss of a batch of two views."""
        (first, second), *_ = batch
        update_momentum(self.backbone, self.backbone_momentum, KEY_MOMENTUM)
        update_momentum(self.projection_head, self.projection_head_momentum, KEY_MOMENTUM)
        queries = self.projection_head(self.backbone(first))
        keys = self.projection_head_momentum(self.backbone_momentum(second)).detach()
        loss: Tensor = self.criterion(queries, keys)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)


class _Stop(pl.Callback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = self._clock.step()


def lightlys(work: Work, folder: Path) -> Numbers:
    """Measure the peer: files, Pillow's transforms in DataLoader workers, Lightning without checkpoints or logs."""
    dataset = LightlyDataset(str(folder), transform=MoCoV2Transform(input_size=work.size))
    loader = DataLoader(
        dataset,
        batch_size=work.batch,
        shuffle=True,
        drop_last=True,
        num_workers=work.workers,
        persistent_workers=work.workers > 0,
    )
    clock = Clock(work)
    with clock.watching_data():
        trainer = pl.Trainer(
            accelerator="gpu" if work.device == "cuda" else "cpu",
            devices=1,
            precision=work.precision,  # type: ignore[arg-type]
            max_epochs=-1,
            callbacks=[_Stop(clock)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Peer(work), loader)
    del trainer, loader
    gc.collect()  # ends the workers
    return clock.numbers()


def encoders_alone(work: Work, *, recorded: bool = False) -> Numbers:
    """Measure the limit: both encoders forward, one back, the optimiser, on one random batch; no views, no queue.

    With `recorded` the step is one CUDA graph.
    """
    model = Peer(work).to(work.device, memory_format=torch.channels_last)
    x = torch.randn(work.batch, 3, work.size, work.size, device=work.device)
    x = x.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=work.device == "cuda")
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(work.precision)

    def step() -> None:
        with torch.autocast(work.device, kind or torch.bfloat16, enabled=kind is not None):
            query = model.projection_head(model.backbone(x))
            with torch.no_grad():
                key = model.projection_head_momentum(model.backbone_momentum(x))
            loss = (query * key).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    with fast_kernels(torch.device(work.device), mixed=kind is not None):
        if recorded:
            step = _recorded(step)
        clock = Clock(work)
        while True:
            step()
            if clock.step():
                return {"rate": clock.numbers()["rate"]}


def _recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return a function that replays `step` as a CUDA graph. Only a few replays wait on the device at any time."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    running: deque[torch.cuda.Event] = deque()

    def replay() -> None:
        graph.replay()
        running.append(torch.cuda.current_stream().record_event())
        if len(running) > 4:
            running.popleft().synchronize()

    return replay


def quiet() -> None:
    """Silence the warnings and hints of Lightning."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
