"""The long pre-trainings behind the study and the first starter: `python -m benchmarks.long_run --help`.

A quarter of the products is held out. A run may be stopped at any time; the next call resumes from the last checkpoint.
With `--lite0` it trains EfficientNet-Lite0, from ImageNet's weights, the starter's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.catalogue import read_catalogue
from benchmarks.yardstick import IMAGENET_WEIGHTS, LITE0
from taxonomist.training.pretraining.pretrain import Probe, Status, pretrain
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions

FROM_IMAGENET = Recipe(
    architecture=LITE0,
    size=64,
    served=80,
    sizes=(32, 32, 32, 48),
    batch=64,
    epochs=29,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.05,
    temperature=0.2,
    head_norm=True,
    shuffle_groups=2,
    positives="group",
    views=ViewOptions(min_scale=0.4),
)
RECIPE = replace(FROM_IMAGENET, architecture="resnet18", weights="random", epochs=150, temperature=0.1)
PREPARED, SERVED = 96, 80  # pixels


def main() -> None:
    """Start the run, or resume it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(".study/main"))
    parser.add_argument("--cache", type=Path, default=Path(".study/recipes"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--lite0", action="store_true", help="from ImageNet's weights, 200,000 images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = read_catalogue(arguments.catalogue, PREPARED, arguments.cache)
    served = read_catalogue(arguments.catalogue, SERVED, arguments.cache)
    rows = source.parts != "test"
    probed = rows & (served.views % 4 == 0)
    recipe = RECIPE
    if arguments.lite0:
        recipe = replace(FROM_IMAGENET, weights=str(IMAGENET_WEIGHTS))
    done = pretrain(
        np.array(source.images[rows]),
        recipe,
        arguments.folder,
        groups=source.products[rows],
        probe=Probe(np.array(served.images[probed]), served.labels[probed], served.products[probed]),
        on_status=_show,
    )
    print(done.summary)


def _show(status: Status) -> None:
    sys.stderr.write(
        f"\repoch {status.epoch:.1f} of {status.epochs}, loss {status.loss:.3f}, "
        f"{status.images_per_s:.0f} images/s, {status.seconds_left / 60:.0f} min left  "
    )


if __name__ == "__main__":
    main()
