"""The loop of a pre-training: steps, curves, scores, checkpoints, and the reasons to stop."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from taxonomist.storage.files import write_atomically
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.checkpoints import LAST, load_checkpoint, save_checkpoint
from taxonomist.training.pretraining.curves import TENSORBOARD, CurvePoint, TensorBoardEvents, write_curves
from taxonomist.training.pretraining.distributed.process_group import ProcessGroup
from taxonomist.training.pretraining.interruption import Interrupted, SigtermFlag
from taxonomist.training.pretraining.probe import Probe, embed, held_out_score
from taxonomist.training.pretraining.step import PretrainingStep

log = logging.getLogger(__name__)

BEST = "best.safetensors"
_STATUS_INTERVAL = 0.5  # seconds between two reports of the loss, each of which waits for the device
_POINTS = 200  # of the curves, at most
_POINT_STEPS = 100  # between two of them, where a shorter run has fewer
_SCORES = 50  # at most, evenly over the run
_OTHER_START = "Begin again with another --preset or from other --weights."
_PATIENCE = 20  # scores without a better average after which the run stops
_NEWEST = 0.5  # the weight of a score in the moving average that chooses the best moment; one alone is noisy
_SCORES_ARE_OF = "held-out products"  # in a checkpoint
_COLLAPSED_STD = 0.05  # projection_std; that of a healthy run rises above 0.5
_SETTLED_STEPS = 500  # steps after which a small projection_std means collapse: random weights start with one
_GO_ON, _SAVE, _STOP = 0, 1, 2


@dataclass(frozen=True)
class Status:
    """Where a run stands. `seen` counts images, `score` is a `held_out_score`, None before the first one."""

    epoch: float
    epochs: int
    step: int
    steps: int
    seen: int
    loss: float
    score: float | None
    images_per_s: float
    seconds_left: float


class PretrainingLoop:
    """Trains by `step` from the beginning or from a checkpoint to the end; its whole state is in the checkpoint.

    A checkpoint is written each `checkpoint_interval` seconds, when the run is stopped, and at its end. The steps after
    which the curves get a point, and those at which a score is computed, are fixed when the run begins. `on_status` is
    called by the first process only.
    """

    def __init__(
        self,
        step: PretrainingStep,
        folder: Path,
        probe: Probe | None,
        group: ProcessGroup,
        *,
        checkpoint_interval: float,
        on_status: Callable[[Status], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._step, self._folder, self._group = step, folder, group
        self._probe = probe if probe is not None and probe.can_score else None
        self._on_status, self._should_stop = on_status, should_stop
        self._checkpoint_interval = checkpoint_interval
        self._done = 0  # steps
        self.points: list[CurvePoint] = []
        self._best: tuple[float, int] | None = None  # average of the scores, and step
        self._point_steps = max(min(step.steps_per_epoch, _POINT_STEPS), -(-step.total_steps // _POINTS))
        self._points_per_score = max(1, -(-step.total_steps // self._point_steps) // _SCORES)
        self._earlier_seconds = 0.0  # since the last point, in former sessions
        self._segment_started = self._status_sent = self._saved = time.monotonic()
        self._recent_steps: deque[tuple[float, int]] = deque(maxlen=50)  # time and step

    def run(self, checkpoint: Path | None) -> None:
        """Train to the end. Raises what `pretrain` raises."""
        if checkpoint is not None:
            self._load(load_checkpoint(checkpoint))
        step, total = self._step, self._step.total_steps
        self._group.broadcast_tensors(step.moco.state_dict().values())
        sigterm, events = SigtermFlag(), TensorBoardEvents(self._folder / TENSORBOARD)
        with (
            sigterm.installed(),
            fast_kernels(step.device, mixed=step.autocast is not None),
        ):
            self._segment_started = self._saved = time.monotonic()
            self._recent_steps.append((time.monotonic(), self._done))
            ended = self._done >= total or self._scores_since_best() >= _PATIENCE
            with closing(step.inputs(self._done)) as inputs:
                while not ended:
                    step.run(next(inputs))
                    self._done += 1
                    ended = self._done >= total
                    if ended or self._done % self._point_steps == 0:
                        ended = self._add_point(events)
                    self._report()
                    stopped = sigterm.received or (self._should_stop is not None and self._should_stop())
                    due = ended or time.monotonic() - self._saved >= self._checkpoint_interval
                    # All processes stop, or write a checkpoint, after the same step.
                    action = self._group.max(_STOP if stopped else _SAVE if due else _GO_ON)
                    if action != _GO_ON:
                        self._save()
                    if action == _STOP and not ended:
                        raise Interrupted("The pre-training was stopped; it can be resumed.")

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
            "best_seen": (self._best[1] if self._best else last.step) * self._step.recipe.batch,
            "stopped_early": last.step < self._step.total_steps,
            "seconds": round(sum(point.seconds for point in self.points), 1),
        }

    # --- points of the curves

    def _add_point(self, events: TensorBoardEvents) -> bool:
        """Record the steps since the last point, and score the encoder where that is due; return whether to end."""
        step, done = self._step, self._done
        loss, std = step.means()
        _check_health(loss, std, done)
        ended = done >= step.total_steps
        score = self._score(due=ended or (len(self.points) + 1) % self._points_per_score == 0, ended=ended)
        now = time.monotonic()
        point = CurvePoint(
            step=done,
            epoch=round(done / step.steps_per_epoch, 3),
            seen=done * step.recipe.batch,
            loss=loss,
            projection_std=std,
            lr=step.learning_rate(done - 1),
            size=step.size_at(done - 1),
            seconds=round(self._earlier_seconds + now - self._segment_started, 3),
            score=score,
        )
        self.points.append(point)
        self._earlier_seconds, self._segment_started = 0.0, now
        if not ended and score is not None and self._scores_since_best() >= _PATIENCE:
            ended = True
            if self._group.is_first:
                log.info(
                    "the pre-training stops early, after %d of %d steps: the score on held-out products was best after "
                    "%d steps, and that moment is kept",
                    done,
                    step.total_steps,
                    self._best[1] if self._best else done,
                )
        if self._group.is_first:
            scalars = {"loss": loss, "projection_std": std, "lr": point.lr}
            events.add(scalars if score is None else {**scalars, "score": score}, done)
            if score is not None or ended:
                write_curves(self.points, self._folder)
        return ended

    def _score(self, *, due: bool, ended: bool) -> float | None:
        """Return the score on held-out products when one is due; write the best encoder so far to its file."""
        step, done = self._step, self._done
        score: float | None = None
        if due and self._probe is not None:
            score = 0.0
            if self._group.is_first:  # the batch norms of the other processes have seen other images
                bfloat16 = step.autocast == torch.bfloat16
                vectors = embed(step.encoder, step.architecture, self._probe.images, step.device, bfloat16=bfloat16)
                score = held_out_score(vectors, self._probe) if bool(vectors.isfinite().all()) else float("nan")
            (score,) = self._group.broadcast(score)
            if score != score:
                raise TrainingError(f"The embeddings are not finite after {done} steps.", hint=_OTHER_START)
        average = None if score is None else moving_averages([*self._scores(), score])[-1]
        better = average is not None and (self._best is None or average > self._best[0])
        if self._group.is_first and (better or (score is None and ended)):
            data = safetensors.torch.save(step.encoder_state(), metadata={"step": str(done)})
            write_atomically(self._folder / BEST, data)
        if better and average is not None:
            self._best = (average, done)
        return score

    def _scores_since_best(self) -> int:
        averages = moving_averages(self._scores())
        return len(averages) - 1 - int(np.argmax(averages)) if averages else 0

    def _scores(self) -> list[float]:
        return [point.score for point in self.points if point.score is not None]

    # --- status and state

    def _report(self) -> None:
        now, done, step = time.monotonic(), self._done, self._step
        self._recent_steps.append((now, done))
        if self._on_status is None or not self._group.is_first or now - self._status_sent < _STATUS_INTERVAL:
            return
        self._status_sent = now
        (first_time, first_step), (last_time, _) = self._recent_steps[0], self._recent_steps[-1]
        steps_per_s = max(done - first_step, 1) / max(last_time - first_time, 1e-9)
        scores = self._scores()
        self._on_status(
            Status(
                epoch=done / step.steps_per_epoch,
                epochs=step.recipe.epochs,
                step=done,
                steps=step.total_steps,
                seen=done * step.recipe.batch,
                loss=float(step.loss),
                score=scores[-1] if scores else None,
                images_per_s=steps_per_s * step.recipe.batch,
                seconds_left=(step.total_steps - done) / steps_per_s,
            )
        )

    def _save(self) -> None:
        """Write a checkpoint. All processes call this; the first one writes."""
        state = self._step.state_dict()
        if self._group.is_first:
            state |= {
                "step": self._done,
                "points": [asdict(point) for point in self.points],
                "best": list(self._best) if self._best else None,
                "scores_are_of": _SCORES_ARE_OF,
                "point_steps": self._point_steps,
                "points_per_score": self._points_per_score,
                "seconds": self._earlier_seconds + time.monotonic() - self._segment_started,
            }
            save_checkpoint(state, self._folder / LAST)
        self._saved = time.monotonic()

    def _load(self, state: dict[str, Any]) -> None:
        self._done, self._earlier_seconds = state["step"], state["seconds"]
        self.points = [CurvePoint(**point) for point in state["points"]]
        self._best = tuple(state["best"]) if state["best"] else None
        if state.get("scores_are_of") != _SCORES_ARE_OF and self._best is not None:
            log.warning("the scores of an earlier release are of trained products, and do not count any more")
            self.points, self._best = [replace(point, score=None) for point in self.points], None
        self._point_steps = state["point_steps"] or self._point_steps
        self._points_per_score = state["points_per_score"] or self._points_per_score
        self._step.load_state_dict(state)


def moving_averages(scores: Sequence[float]) -> list[float]:
    """Return for each score the average of it and of the average before it."""
    averages: list[float] = []
    for score in scores:
        averages.append(_NEWEST * score + (1 - _NEWEST) * averages[-1] if averages else score)
    return averages


@contextmanager
def fast_kernels(device: torch.device, *, mixed: bool) -> Iterator[None]:
    """Let a GPU choose its fastest convolutions and, in a `mixed` number format, multiply views in TF32."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    if mixed:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


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
