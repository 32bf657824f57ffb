"""Watches a pre-training: writes its checkpoints and curves, keeps the best encoder, and stops what leads nowhere."""

import csv
import io
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import safetensors.torch

from taxonomist.storage.files import write_atomically
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.pretraining.checkpoints import LAST
from taxonomist.training.pretraining.distributed.process_group import Team
from taxonomist.training.pretraining.moco_module import Contrast
from taxonomist.training.pretraining.plot import plot_pretraining
from taxonomist.training.pretraining.probe import Probe, embed, neighbour_score

BEST, CURVES, PLOT = "best.safetensors", "curves.csv", "loss.png"
_TELL_EVERY = 0.5  # seconds between two looks at the loss, each of which waits for the device
_SCORES = 50  # at most, evenly over the run
_PATIENCE = 20  # scores without a better one after which the run stops
_COLLAPSED = 0.05  # spread of the projections; a healthy one rises above 0.5
_SETTLED = 500  # steps after which a small spread means collapse: random weights begin with one


class Interrupted(TrainingError):  # noqa: N818 - nothing went wrong
    """The run was asked to stop. Its checkpoint is there, and the next call goes on."""


class Sigterm:
    """Notes that the process was told to end, instead of ending it. A handler that was there before is called, too."""

    def __init__(self) -> None:
        self.received = False
        self._former = signal.getsignal(signal.SIGTERM)

    def take(self) -> None:
        """From now on; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within the block."""
        self.take()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._former)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if callable(self._former):
            self._former(number, frame)


@dataclass(frozen=True)
class Status:
    """Where a run stands. `seen` counts pictures, the score is a macro-F1, None before the first one."""

    epoch: float
    epochs: int
    step: int
    steps: int
    seen: int
    loss: float
    score: float | None
    pictures_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class Point:
    """One row of the curves: means over the steps since the one before."""

    step: int
    epoch: float
    seen: int
    loss: float
    spread: float
    lr: float
    size: int
    seconds: float
    score: float | None = None


class Watch(pl.Callback):
    """Lightning's callback; all that it remembers is part of the checkpoint."""

    def __init__(
        self,
        module: Contrast,
        folder: Path,
        probe: Probe | None,
        on_status: Callable[[Status], None] | None,
        should_stop: Callable[[], bool] | None,
        *,
        half: bool,
        team: Team,
    ) -> None:
        self._module, self._folder, self._probe, self._half, self._team = module, folder, probe, half, team
        self._on_status, self._should_stop = on_status, should_stop
        self._sigterm = Sigterm()
        self.points: list[Point] = []
        self._best: tuple[float, int] | None = None
        self._pace: deque[tuple[float, int]] = deque(maxlen=50)
        self._leg_began = self._told = time.monotonic()
        legs = -(-module.total_steps // module.steps_a_leg)
        self._legs_a_score = max(1, legs // _SCORES)

    # --- what the checkpoint carries

    def state_dict(self) -> dict[str, Any]:
        return {"points": [asdict(point) for point in self.points], "best": list(self._best) if self._best else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [Point(**point) for point in state_dict["points"]]
        self._best = tuple(state_dict["best"]) if state_dict["best"] else None

    def summary(self) -> dict[str, Any]:
        """What came of the run, for its manifest."""
        end = self.points[-1]
        return {
            "seen": end.seen,
            "steps": end.step,
            "epochs": end.epoch,
            "loss": end.loss,
            "spread": end.spread,
            "score": self._best[0] if self._best else None,
            "best_step": self._best[1] if self._best else end.step,
            "seconds": round(sum(point.seconds for point in self.points), 1),
        }

    # --- Lightning's hooks

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Take SIGTERM over from Lightning, whose handler waits for the end of the leg, or talks to the other devices
        in the middle of a step. It puts back the former handler when the training ends."""
        self._sigterm.take()
        self._pace.append((time.monotonic(), trainer.global_step))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._leg_began = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        asked = self._sigterm.received or (self._should_stop is not None and self._should_stop())
        if self._team.any(asked):  # all devices stop after the same step
            raise Interrupted("The pre-training was stopped; it can be resumed.")
        step = trainer.global_step
        self._pace.append((time.monotonic(), step))
        (then, before), (now, _) = self._pace[0], self._pace[-1]
        if self._on_status is None or not trainer.is_global_zero or now - self._told < _TELL_EVERY:
            return
        self._told = now
        pace = max(step - before, 1) / max(now - then, 1e-9)
        module = self._module
        scores = [point.score for point in self.points if point.score is not None]
        self._on_status(
            Status(
                epoch=step / module.steps_per_epoch,
                epochs=module.recipe.epochs,
                step=step,
                steps=module.total_steps,
                seen=step * module.recipe.batch,
                loss=float(outputs["loss"]),
                score=scores[-1] if scores else None,
                pictures_per_s=pace * module.recipe.batch,
                seconds_left=(module.total_steps - step) / pace,
            )
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """After a leg: note it, score it, keep it. An epoch of Lightning's is a leg of ours."""
        module, step = self._module, trainer.global_step
        loss, spread = (float(trainer.callback_metrics[name]) for name in ("loss", "spread"))
        if not loss == loss or loss == float("inf"):
            raise TrainingError(
                f"The loss is no number any more after {step} steps.", hint="Start with a lower learning rate."
            )
        if spread < _COLLAPSED and step > _SETTLED:
            raise TrainingError(
                f"The embedding has collapsed: after {step} steps all pictures look the same to it (spread "
                f"{spread:.3f}).",
                hint="Lower the learning rate or raise the temperature; see the plot of the loss.",
            )
        score = self._score(trainer, step)
        self.points.append(
            Point(
                step=step,
                epoch=round(step / module.steps_per_epoch, 3),
                seen=step * module.recipe.batch,
                loss=loss,
                spread=spread,
                lr=float(trainer.optimizers[0].param_groups[0]["lr"]),
                size=module.size_at(step - 1),
                seconds=round(time.monotonic() - self._leg_began, 3),
                score=score,
            )
        )
        ended = step >= module.total_steps
        if score is not None and self._scores_since_best() >= _PATIENCE:
            trainer.should_stop = ended = True
        if trainer.is_global_zero and (score is not None or ended):
            self._draw()
        trainer.save_checkpoint(self._folder / LAST)

    # --- inside

    def _scores_since_best(self) -> int:
        scores = [point.score for point in self.points if point.score is not None]
        return len(scores) - 1 - int(np.argmax(scores))

    def _score(self, trainer: pl.Trainer, step: int) -> float | None:
        """The neighbour score when it is due; the best encoder so far is kept in a file."""
        module = self._module
        ended = step >= module.total_steps
        due = ended or (len(self.points) + 1) % self._legs_a_score == 0
        score: float | None = None
        if due and self._probe is not None and len(set(self._probe.labels.tolist())) > 1:
            score = 0.0
            if self._team.is_first:  # the batch norms of the others have seen other pictures
                vectors = embed(module.encoder, self._probe.pictures, module.device, half=self._half)
                score = neighbour_score(vectors, self._probe) if bool(vectors.isfinite().all()) else float("nan")
            (score,) = self._team.as_first(score)
            if score != score:
                raise TrainingError(
                    f"The embeddings are no numbers any more after {step} steps.",
                    hint="Start with a lower learning rate.",
                )
            module.log("score", score, rank_zero_only=True)
        better = score is not None and (self._best is None or score > self._best[0])
        if trainer.is_global_zero and (better or (score is None and ended)):
            data = safetensors.torch.save(module.encoder_state(), metadata={"step": str(step)})
            write_atomically(self._folder / BEST, data)
        if better and score is not None:
            self._best = (score, step)
        return score

    def _draw(self) -> None:
        out = io.StringIO()
        rows = csv.DictWriter(out, list(asdict(self.points[0])))
        rows.writeheader()
        rows.writerows([asdict(point) for point in self.points])
        write_atomically(self._folder / CURVES, out.getvalue().encode())
        plot_pretraining(
            [point.epoch for point in self.points],
            [point.loss for point in self.points],
            [point.score for point in self.points],
            self._folder / PLOT,
        )
