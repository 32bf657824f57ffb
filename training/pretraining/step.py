"""One step of a pre-training: a pure function of its inputs and of the state, recorded as one CUDA graph on a GPU.

All that differs from step to step (which images, the random numbers, the learning rate) is prepared on the CPU, by a
thread that works ahead as far as that pays, and copied to fixed places on the device. In between nothing is copied and
no result is waited for, so that on a GPU the whole step is recorded once and replayed. The same code runs on a CPU as
it is.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.frozen_stages import freeze_first_stages
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.pretraining.batches import BatchSchedule, ImageSelection, RowIndices
from taxonomist.training.pretraining.contrastive_views import (
    VIEW_NUMBERS,
    VIEW_PARAMETERS,
    contrastive_views,
    view_parameters,
)
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.moco import MoCo, projection_std
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_SHARE_OF_MEMORY = 0.5  # of a GPU's free memory that the images may take
_AHEAD = 4  # steps whose inputs are prepared, and as many that a GPU may have before it
_WARM_UP = 3  # steps before a recording, in which cuDNN chooses its algorithms
_LOCAL_SCALES = (0.05, 0.2)  # area of the small views, beside the large ones; https://arxiv.org/abs/2006.09882


@dataclass(frozen=True)
class StepInputs:
    """What one step needs, on the CPU; n images of this process, and N of all processes.

    `rows` is int64 (3 * n + N,): rows of the queries, rows of the keys, what they show, and the order in which keys are
    shuffled. `numbers` is float32: the parameters of the views (v, n, VIEW_PARAMETERS), v of each image, and the
    learning rate. `images` is uint8 (2, n, s, s, 3), queries and keys, or None where the device has the images.
    """

    step: int
    rows: Tensor
    numbers: Tensor
    images: Tensor | None = None


class PretrainingStep:
    """The model of a pre-training by `recipe` on n `images`, and one step of its training.

    `groups` (n,) are numbers of products or reports, -1 for none. `number_format` is one of Lightning's names. With
    `recorded` the step is recorded where that is possible: on one GPU, unless the gradient is scaled.
    """

    def __init__(
        self,
        images: ImageSelection,
        recipe: Recipe,
        groups: RowIndices | None,
        *,
        device: torch.device,
        number_format: str,
        process_group: ProcessGroup,
        recorded: bool = True,
    ) -> None:
        self.recipe, self.device, self._images, self._process_group = recipe, device, images, process_group
        self._groups = groups if recipe.positives != "image" else None
        self.steps_per_epoch = max(1, len(images) // recipe.batch)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.architecture = get_architecture(recipe.architecture)
        self.autocast = _AUTOCAST.get(number_format)
        self._scaler = torch.amp.GradScaler(device.type, enabled=number_format == "16-mixed")
        self._batch = recipe.batch // process_group.world_size
        self.moco, self.origin = _build(recipe, len(images))
        self.moco.to(device).to(memory_format=torch.channels_last)
        self._images_on_device: Tensor | None = None  # uint8 (n, s, s, 3)
        if device.type == "cuda" and images.nbytes < _SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]:
            self._images_on_device = images.on(device)
        views = 2 + recipe.local_views
        self._all = self._batch * process_group.world_size  # images of a step; of an uneven batch some are left out
        self._rows = torch.zeros(3 * self._batch + self._all, dtype=torch.long, device=device)
        self._numbers = torch.zeros(views * self._batch * VIEW_PARAMETERS + 1, device=device)
        self._taken: Tensor | None = None  # uint8 (2, n, s, s, 3), queries and keys, where they come with each step
        if self._images_on_device is None:
            self._taken = torch.zeros(2, self._batch, *images.images.shape[1:], dtype=torch.uint8, device=device)
        self.optimiser = self._make_optimiser()
        self.loss = torch.zeros((), device=device)  # of the last step
        self._sums = torch.zeros(3, device=device)  # of the loss, of the projections' deviation, and of the steps
        self._records = (
            recorded and device.type == "cuda" and process_group.world_size == 1 and self.autocast != torch.float16
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._size, self._warm = 0, 0  # of the views that are recorded, and steps since that size began
        self._running: deque[torch.cuda.Event] = deque()

    @property
    def encoder(self) -> nn.Module:
        """The query encoder, which is what remains of a pre-training."""
        return self.moco.backbone

    def size_at(self, step: int) -> int:
        """Return the side of the views of a step, in pixels."""
        sizes = (*self.recipe.sizes, self.recipe.size)
        return sizes[min(step * len(sizes) // self.total_steps, len(sizes) - 1)]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step: it rises shortly and then falls as a cosine."""
        warmup = max(1, int(self.recipe.warmup * self.total_steps))
        if step < warmup:
            return self.recipe.lr * (step + 1) / warmup
        share = (step - warmup) / max(1, self.total_steps - warmup)
        return self.recipe.lr * 0.5 * (1 + float(np.cos(np.pi * share)))

    # --- inputs

    def inputs(self, start: int) -> Generator[StepInputs]:
        """Yield the inputs of the steps from `start` on. A thread prepares a few of them ahead."""
        schedule = BatchSchedule(
            len(self._images),
            self.recipe.batch,
            self.recipe.seed,
            self._groups,
            same_image=0.5 if self.recipe.positives == "mixed" else 0.0,
            rank=self._process_group.rank,
            world_size=self._process_group.world_size,
        )
        waiting: deque[Future[Callable[[], StepInputs]]] = deque()
        with ThreadPoolExecutor(1, "inputs") as reader:
            try:
                for step in range(start, self.total_steps + _AHEAD):
                    if step < self.total_steps:
                        waiting.append(reader.submit(self._prepare, schedule, step))
                    if step >= start + _AHEAD and waiting:
                        yield waiting.popleft().result()()
            finally:
                for future in waiting:
                    future.cancel()

    def _prepare(self, schedule: BatchSchedule, step: int) -> Callable[[], StepInputs]:
        """Return a function that returns the inputs of a step, after what can be done ahead of it.

        Beside a GPU that is all. On a CPU only images are read ahead, and torch computes in one thread alone. A second
        one would get a team of OpenMP threads of its own, and with more of these than cores, all of them sleep between
        two operations instead of spinning: to wake them takes a tenth of a step.
        """
        queries, keys = schedule.rows(step)
        rows = np.concatenate([queries, keys, schedule.ids(queries)])
        images = None
        if self._images_on_device is None:
            images = np.stack([self._images.take(queries), self._images.take(keys)])
        if self.device.type == "cpu":
            return partial(self._complete, step, rows, images)
        inputs = self._complete(step, rows, images)
        return lambda: inputs

    def _complete(self, step: int, rows: RowIndices, images: npt.NDArray[np.uint8] | None) -> StepInputs:
        recipe, views = self.recipe, 2 + self.recipe.local_views
        seed = int(np.random.SeedSequence([recipe.seed, step]).generate_state(1)[0])
        # Drawn for the whole batch, so that any number of processes makes the same views of it.
        drawn = torch.rand(recipe.batch, views * VIEW_NUMBERS + 1, generator=torch.Generator().manual_seed(seed))
        first = self._process_group.rank * self._batch
        own = drawn[first : first + self._batch, : views * VIEW_NUMBERS].chunk(views, 1)
        parameters = [view_parameters(torch.cat(own[:2]), recipe.views)]
        if recipe.local_views:
            parameters.append(view_parameters(torch.cat(own[2:]), _local_options(recipe.views)))
        numbers = torch.cat([*(values.flatten() for values in parameters), torch.tensor([self.learning_rate(step)])])
        inputs = [torch.cat([torch.from_numpy(rows), drawn[: self._all, -1].argsort()]), numbers]
        if images is not None:
            inputs.append(torch.from_numpy(images))
        if self.device.type == "cuda":
            inputs = [values.pin_memory() for values in inputs]
        return StepInputs(step, *inputs)

    # --- the step

    def run(self, inputs: StepInputs) -> None:
        """Train on the inputs of a step. On a GPU it runs on after the return, a few steps at most."""
        self._rows.copy_(inputs.rows, non_blocking=True)
        self._numbers.copy_(inputs.numbers, non_blocking=True)
        if self._taken is not None and inputs.images is not None:
            self._taken.copy_(inputs.images, non_blocking=True)
        size = self.size_at(inputs.step)
        if not self._records:
            if self.device.type == "cpu":
                for group in self.optimiser.param_groups:
                    group["lr"] = self.learning_rate(inputs.step)
            self._compute(size)
        else:
            self._replay(size)
        if self.device.type == "cuda":
            self._running.append(torch.cuda.current_stream(self.device).record_event())
            if len(self._running) > _AHEAD:
                self._running.popleft().synchronize()

    def _replay(self, size: int) -> None:
        if size != self._size:
            self._graph, self._size, self._warm = None, size, 0
        if self._graph is None and self._warm < _WARM_UP:
            self._warm += 1
            current = torch.cuda.current_stream(self.device)
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                self._compute(size)
            current.wait_stream(stream)
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            # The thread that prepares inputs may use the GPU's driver meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._compute(size)
        self._graph.replay()

    def _compute(self, size: int) -> None:
        """Compute one step from the inputs on the device. Everything is changed in place."""
        recipe, n = self.recipe, self._batch
        images = self._taken.flatten(0, 1) if self._taken is not None else self._images_on_device[self._rows[: 2 * n]]  # type: ignore[index]
        ids, order = self._rows[2 * n : 3 * n], self._rows[3 * n :]
        parameters = self._numbers[:-1].view(-1, VIEW_PARAMETERS)
        views = contrastive_views(
            images, size, recipe.views, parameters[: 2 * n], self.architecture
        )  # (2 * n, 3, size, size)
        local_options = _local_options(recipe.views)
        local = [
            contrastive_views(
                images[n:], recipe.local_size, local_options, parameters[start : start + n], self.architecture
            )
            for start in range(2 * n, len(parameters), n)
        ]
        self.moco.momentum_update()
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss, q = self.moco(views[:n], views[n:], ids, order, local)
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._process_group.average_gradients(self.moco.parameters())
        self._scaler.step(self.optimiser)
        self._scaler.update()
        loss = loss.detach()
        self.loss.copy_(loss)
        self._sums += torch.stack([loss, projection_std(q), torch.ones_like(loss)])

    def _make_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser. Biases and batch norms, the parameters of one dimension, do not decay."""
        recipe, on_gpu = self.recipe, self.device.type == "cuda"
        trained = [parameter for parameter in self.moco.parameters() if parameter.requires_grad]
        groups = [
            {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        rate: Any = self._numbers[-1] if on_gpu else recipe.lr  # a recorded step reads it from there
        if recipe.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=recipe.sgd_momentum, fused=on_gpu or None)
        return torch.optim.AdamW(groups, lr=rate, fused=on_gpu or None, capturable=on_gpu)

    # --- state

    def means(self) -> tuple[float, float]:
        """Return the mean loss and the mean deviation of the projections (`projection_std`) since the last call."""
        loss, std, count = np.sum(self._process_group.gather(*self._sums.tolist()), axis=0)
        self._sums.zero_()
        return float(loss / count), float(std / count)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, the same for all processes but for the batch norms' statistics."""
        return {
            "state_dict": {f"moco.{name}": value for name, value in self.moco.state_dict().items()},
            "optimizer": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sums": self._process_group.gather(*self._sums.tolist()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state, which another kind of device may have left."""
        self.moco.load_state_dict({name.removeprefix("moco."): value for name, value in state["state_dict"].items()})
        for saved, group in zip(state["optimizer"]["param_groups"], self.optimiser.param_groups, strict=True):
            saved.update({name: value for name, value in group.items() if name != "params"})
        self.optimiser.load_state_dict(state["optimizer"])
        if self.device.type == "cuda":
            for group in self.optimiser.param_groups:
                group["lr"] = self._numbers[-1]
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        # Each process has its own; another number of processes begins with the mean of the former ones.
        sums, processes = state["sums"], self._process_group
        own = sums[processes.rank] if len(sums) == processes.world_size else np.mean(sums, axis=0).tolist()
        self._sums.copy_(torch.tensor(own))

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the weights of the query encoder, by the names that they have in a backbone file."""
        return {
            f"encoder.{name}": value.detach().cpu().contiguous() for name, value in self.encoder.state_dict().items()
        }


def _build(recipe: Recipe, images: int) -> tuple[MoCo, str]:
    """Return the model with its start weights, and where these come from."""
    built = build_backbone(BackboneSpec(recipe.architecture, recipe.weights, recipe.seed, recipe.size))
    encoder = built.module.encoder.train()
    if recipe.frozen and not built.origin.startswith("random"):
        freeze_first_stages(encoder, get_architecture(recipe.architecture), recipe.frozen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        moco = MoCo(
            encoder,
            built.module.dimension,
            queue_size=recipe.queue_for(images),
            temperature=recipe.temperature,
            key_momentum=recipe.key_momentum,
            projection=recipe.projection,
            hidden=recipe.hidden,
            head_norm=recipe.head_norm,
            shuffle_groups=recipe.shuffle_groups,
            symmetric=recipe.symmetric,
        )
    return moco, built.origin


def _local_options(options: ViewOptions) -> ViewOptions:
    return replace(options, min_scale=_LOCAL_SCALES[0], max_scale=_LOCAL_SCALES[1])
