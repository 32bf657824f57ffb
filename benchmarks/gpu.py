"""Pre-training on one CUDA GPU beside lightly and beside the limit: `benchmarks/gpu.sh` runs this, see there."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contrastive import SIDE, Numbers, Work, encoders_alone, lightlys, make_images, ours, prepared, quiet
from taxonomist.training.pretraining.pretrain import pretrain
from taxonomist.training.pretraining.recipe import PRESETS, Recipe
from taxonomist.training.pretraining.step import PretrainingStep

FILES = 4096  # made JPEG files, for lightly
IMAGES = 9216  # in the prepared file: the same ones several times
LIGHTLY = 4  # times as long is lightly measured: its workers have to start
VIEWS = 12  # images of a product
THESIS_IMAGES, THESIS_SIZE = 15_000, 128
NOTES = """
Images per second, medians of the rounds, in bfloat16, in one run on one card. *Recorded* is `pretrain` as it comes,
with its checkpoints: the whole step is one CUDA graph. *Eager* is the same code, not recorded. *Limit* is both encoders
forward, one back, and SGD, on random numbers, recorded as a CUDA graph; *limit, eager* the same, not recorded.
*lightly* is MoCo v2 from lightly's parts with pytorch-lightning and DataLoader workers, as in `benchmarks.pretraining`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the tables")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.5, help="of training in each (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=16, help="of lightly's DataLoader (default: %(default)s)")
    parser.add_argument("--skip-thesis", action="store_true", help="leave out the study's own pre-training, 75 s")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stderr.write("There is no CUDA GPU here.\n")
        return 1
    quiet()
    torch.set_num_threads(8)
    card = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory(prefix="taxonomist-gpu-") as name:
        folder = Path(name)
        make_images(folder / "files", FILES)
        prepared(folder / "files", folder / "some.u8")
        some = np.memmap(folder / "some.u8", np.uint8, "r", shape=(FILES, SIDE, SIDE, 3))
        stored = np.memmap(folder / "images.u8", np.uint8, "w+", shape=(IMAGES, SIDE, SIDE, 3))
        for start in range(0, IMAGES, FILES):
            stored[start : start + FILES] = some[: IMAGES - start]
        rows = [measure(name, recipe, folder, options) for name, recipe in recipes().items()]
        seconds = 0.0 if options.skip_thesis else thesis(some)
    lines = [
        f"# Pre-training on {card}",
        "",
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, lightly {version('lightly')}; "
        f"{options.rounds} rounds of {options.seconds} s.",
        NOTES,
        "| work | recorded | eager | limit | limit, eager | of the limit | lightly | times lightly |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {row['name']} | {_cells(row)} |" for row in rows),
    ]
    result: dict[str, object] = {"card": card, "rows": rows}
    if seconds:
        seen = THESIS_IMAGES // 128 * 128 * 100
        lines += ["", f"The study's pre-training ({THESIS_IMAGES:,} images, 100 epochs, {seen:,} images seen; "]
        lines[-1] += f"preset thesis, scores left out) took {seconds:.1f} s."
        result |= {"thesis_seconds": seconds, "thesis_seen": seen}
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    (options.output / "gpu.md").write_text(text)
    (options.output / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def recipes() -> dict[str, Recipe]:
    """Return what is measured."""
    default = replace(PRESETS["default"], weights="random")
    return {
        "preset thesis: 100 pixels, batch 128, queue 2048": replace(PRESETS["thesis"], weights="random"),
        "preset default: 128 pixels, batch 64": default,
        **{f"preset default, batch {batch}": replace(default, batch=batch) for batch in (256, 512)},
    }


def measure(name: str, recipe: Recipe, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the rates of all sides."""
    work = Work(
        size=recipe.size,
        batch=recipe.batch,
        queue=recipe.queue_for(IMAGES),
        seconds=options.seconds,
        precision="bf16-mixed",
        device="cuda",
        workers=options.workers,
        images=IMAGES,
        warm_up=20,
    )
    groups = np.arange(IMAGES) // VIEWS if recipe.positives == "group" else None
    train = partial(ours, work, folder / "images.u8", recipe, groups)
    sides: dict[str, Callable[[], Numbers]] = {
        "recorded": train,
        "eager": partial(_eager, train),
        "limit": partial(encoders_alone, work, recorded=True),
        "limit_eager": partial(encoders_alone, work),
        "lightly": partial(lightlys, replace(work, seconds=LIGHTLY * work.seconds), folder / "files"),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    waiting = []
    for number in range(options.rounds):
        for side, call in sides.items():
            if side in {"lightly", "eager", "limit_eager"} and number:
                continue  # slow, or only to compare with
            numbers = call()
            rates[side].append(numbers["rate"])
            if side == "recorded":
                waiting.append(numbers["waiting"])
    sys.stderr.write(f"{name}: {rates}, waiting {waiting}\n")
    return {"name": name, "waiting": waiting, **{side: float(np.median(values)) for side, values in rates.items()}}


def _eager(train: Callable[[], Numbers]) -> Numbers:
    plain = PretrainingStep.__init__

    def eager(step: PretrainingStep, *arguments: object, **options: object) -> None:
        plain(step, *arguments, **{**options, "recorded": False})  # type: ignore[arg-type]

    with patch.object(PretrainingStep, "__init__", eager):
        return train()


def thesis(some: NDArray[np.uint8]) -> float:
    """Return the seconds of the study's own pre-training, on made images (n, s, s, 3), each of them several times."""
    images = np.resize(some[:, :THESIS_SIZE, :THESIS_SIZE], (THESIS_IMAGES, THESIS_SIZE, THESIS_SIZE, 3))
    recipe = replace(PRESETS["thesis"], weights="random")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pretrain(images, recipe, Path(folder), device="cuda", precision="bf16")
        return time.perf_counter() - began


def _cells(row: dict[str, object]) -> str:
    names = ("recorded", "eager", "limit", "limit_eager")
    rates = {name: float(str(row[name])) for name in (*names, "lightly")}
    cells = [f"{rates[name]:,.0f}" for name in names]
    share = rates["recorded"] / rates["limit"]
    return " | ".join(
        [*cells, f"{share:.2f}", f"{rates['lightly']:,.0f}", f"{rates['recorded'] / rates['lightly']:.1f}"]
    )


if __name__ == "__main__":
    sys.exit(main())
