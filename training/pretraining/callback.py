"""Lightning's callback of a pre-training: writes checkpoints and curves, keeps the best encoder, stops failed runs."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import safetensors.torch

from taxonomist.storage.files import write_atomically
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.checkpoints import LAST
from taxonomist.training.pretraining.curves import CurvePoint, write_curves
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.interruption import Interrupted, SigtermFlag
from taxonomist.training.pretraining.moco_module import MoCoModule
from taxonomist.training.pretraining.probe import Probe, embed, neighbour_score

BEST = "best.safetensors"
_STATUS_INTERVAL = 0.5  # seconds between two reports of the loss, each of which waits for the device
_SCORES = 50  # at most, evenly over the run
_OTHER_START = "Begin again with another --preset or from other --weights."
_PATIENCE = 20  # scores without a better one after which the run stops
_COLLAPSED_STD = 0.05  # projection_std; that of a healthy run rises above 0.5
_SETTLED_STEPS = 500  # steps after which a small projection_std means collapse: random weights start with one


@dataclass(frozen=True)
class Status:
    """Where a run stands. `seen` counts images, the score is a macro-F1, None before the first one."""

    epoch: float
    epochs: int
    step: int
    steps: int
    seen: int
    loss: float
    score: float | None
    images_per_s: float
    seconds_left: float


class PretrainingCallback(pl.Callback):
    """Runs after each step and after each segment; its whole state is part of the checkpoint.

    `bfloat16`: the probe is embedded in that format. `on_status` is called by the first process only.
    """

    def __init__(
        self,
        module: MoCoModule,
        folder: Path,
        probe: Probe | None,
        on_status: Callable[[Status], None] | None,
        should_stop: Callable[[], bool] | None,
        *,
        bfloat16: bool,
        group: ProcessGroup,
    ) -> None:
        self._module, self._folder, self._probe, self._bfloat16, self._group = module, folder, probe, bfloat16, group
        self._on_status, self._should_stop = on_status, should_stop
        self._sigterm = SigtermFlag()
        self.points: list[CurvePoint] = []
        self._best: tuple[float, int] | None = None  # score and step
        self._recent_steps: deque[tuple[float, int]] = deque(maxlen=50)  # time and step
        self._segment_started = self._status_sent = time.monotonic()
        segments = -(-module.total_steps // module.segment_steps)
        self._segments_per_score = max(1, segments // _SCORES)

    # --- state in the checkpoint

    def state_dict(self) -> dict[str, Any]:
        return {"points": [asdict(point) for point in self.points], "best": list(self._best) if self._best else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [CurvePoint(**point) for point in state_dict["points"]]
        self._best = tuple(state_dict["best"]) if state_dict["best"] else None

    def summary(self) -> dict[str, Any]:
        """Return the results of the run for its summary."""
        last = self.points[-1]
        return {
            "seen": last.seen,
            "steps": last.step,
            "epochs": last.epoch,
            "loss": last.loss,
            "projection_std": last.projection_std,
            "score": self._best[0] if self._best else None,
            "best_step": self._best[1] if self._best else last.step,
            "seconds": round(sum(point.seconds for point in self.points), 1),
        }

    # --- Lightning's hooks

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Replace Lightning's handler of SIGTERM, which waits for the end of the segment, or communicates with the
        other devices in the middle of a step. Lightning restores the former handler when the training ends."""
        self._sigterm.install()
        self._recent_steps.append((time.monotonic(), trainer.global_step))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._segment_started = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        stop_requested = self._sigterm.received or (self._should_stop is not None and self._should_stop())
        if self._group.any(stop_requested):  # all devices stop after the same step
            raise Interrupted("The pre-training was stopped; it can be resumed.")
        now, step = time.monotonic(), trainer.global_step
        self._recent_steps.append((now, step))
        if self._on_status is None or not trainer.is_global_zero or now - self._status_sent < _STATUS_INTERVAL:
            return
        self._status_sent = now
        self._on_status(self._status(step, float(outputs["loss"])))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Record, score and save a segment, which Lightning calls an epoch."""
        module, step = self._module, trainer.global_step
        loss, std = (float(trainer.callback_metrics[name]) for name in ("loss", "projection_std"))
        _check_health(loss, std, step)
        score = self._score(trainer, step)
        self.points.append(
            CurvePoint(
                step=step,
                epoch=round(step / module.steps_per_epoch, 3),
                seen=step * module.recipe.batch,
                loss=loss,
                projection_std=std,
                lr=float(trainer.optimizers[0].param_groups[0]["lr"]),
                size=module.size_at(step - 1),
                seconds=round(time.monotonic() - self._segment_started, 3),
                score=score,
            )
        )
        ended = step >= module.total_steps
        if score is not None and self._scores_since_best() >= _PATIENCE:
            trainer.should_stop = ended = True
        if trainer.is_global_zero and (score is not None or ended):
            write_curves(self.points, self._folder)
        trainer.save_checkpoint(self._folder / LAST)

    # --- inside

    def _status(self, step: int, loss: float) -> Status:
        (first_time, first_step), (last_time, _) = self._recent_steps[0], self._recent_steps[-1]
        steps_per_s = max(step - first_step, 1) / max(last_time - first_time, 1e-9)
        module = self._module
        scores = [point.score for point in self.points if point.score is not None]
        return Status(
            epoch=step / module.steps_per_epoch,
            epochs=module.recipe.epochs,
            step=step,
            steps=module.total_steps,
            seen=step * module.recipe.batch,
            loss=loss,
            score=scores[-1] if scores else None,
            images_per_s=steps_per_s * module.recipe.batch,
            seconds_left=(module.total_steps - step) / steps_per_s,
        )

    def _scores_since_best(self) -> int:
        scores = [point.score for point in self.points if point.score is not None]
        return len(scores) - 1 - int(np.argmax(scores))

    def _score(self, trainer: pl.Trainer, step: int) -> float | None:
        """Return the neighbour score when one is due; write the best encoder so far to its file."""
        module = self._module
        ended = step >= module.total_steps
        due = ended or (len(self.points) + 1) % self._segments_per_score == 0
        score: float | None = None
        if due and self._probe is not None and len(set(self._probe.labels.tolist())) > 1:
            score = 0.0
            if self._group.is_first:  # the batch norms of the other processes have seen other images
                vectors = embed(module.encoder, self._probe.images, module.device, bfloat16=self._bfloat16)
                score = neighbour_score(vectors, self._probe) if bool(vectors.isfinite().all()) else float("nan")
            (score,) = self._group.broadcast(score)
            if score != score:
                raise TrainingError(f"The embeddings are not finite after {step} steps.", hint=_OTHER_START)
            module.log("score", score, rank_zero_only=True)
        better = score is not None and (self._best is None or score > self._best[0])
        if trainer.is_global_zero and (better or (score is None and ended)):
            data = safetensors.torch.save(module.encoder_state(), metadata={"step": str(step)})
            write_atomically(self._folder / BEST, data)
        if better and score is not None:
            self._best = (score, step)
        return score


def _check_health(loss: float, std: float, step: int) -> None:
    """Raise TrainingError when the run leads nowhere."""
    if not np.isfinite(loss):
        raise TrainingError(f"The loss is not finite after {step} steps.", hint=_OTHER_START)
    if loss == 0:
        raise TrainingError(
            f"The loss is exactly zero after {step} steps: no image is a negative of another, so nothing is learned.",
            hint="Are all images of one product, or copies of one file? Add others.",
        )
    if std < _COLLAPSED_STD and step > _SETTLED_STEPS:
        raise TrainingError(
            f"The embedding has collapsed: after {step} steps it is nearly the same for all images (standard deviation "
            f"of the projections {std:.3f}).",
            hint=f"{_OTHER_START} The plot of the loss shows when it happened.",
        )
