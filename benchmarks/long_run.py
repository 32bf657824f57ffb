"""The pre-training of the thesis that the study compares: `python -m benchmarks.long_run --help`.

Recipe, products and held-out products are those of `benchmarks.recipes`: a quarter of the products is for testing only,
and a tenth of the others chooses the best moment. Images are of 80 pixels and views of 62 (the thesis: 128 and 100), so
that a CPU sees enough of them. A run may be stopped at any time; the next call resumes from the last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.recipes import Data
from taxonomist.training.pretraining.pretrain import Probe, Status, pretrain
from taxonomist.training.pretraining.recipe import PRESETS

SIZE = 80  # pixels of images that are served


def main() -> None:
    """Start the run, or resume it."""
    parser = argparse.ArgumentParser("python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(".study/recipes"), help="where images are kept")
    parser.add_argument("--run", type=Path, default=Path(".study/thesis"), help="where the run is kept")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Data(arguments, SIZE, None)
    _, first = np.unique(data.all.products[data.rows], return_index=True)
    judged = np.concatenate([np.flatnonzero(data.held_out), data.rows[first]])  # the latter teach the labels
    probe = Probe(
        np.array(data.all.images[judged]),
        data.all.labels[judged],
        data.all.products[judged],
        data.held_out[judged],
    )
    recipe = replace(PRESETS["thesis"].served_at(SIZE), epochs=arguments.epochs)
    done = pretrain(data.all.images, recipe, arguments.run, rows=data.rows, probe=probe, on_status=_show)
    print(done.summary)


def _show(status: Status) -> None:
    sys.stderr.write(
        f"\repoch {status.epoch:.1f} of {status.epochs}, loss {status.loss:.3f}, "
        f"{status.images_per_s:.0f} images/s, {status.seconds_left / 60:.0f} min left  "
    )


if __name__ == "__main__":
    main()
