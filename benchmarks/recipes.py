"""Which recipe of pre-training is best, and which one memorises: `python -m benchmarks.recipes --help`.

A quarter of a catalogue's products is for testing only. Of the others a tenth is held out: no run trains on it, and it
chooses the best moment of each run. The table has the scores on the tested products, which chose nothing. Three starts:
*small* trains a ResNet18 from random weights on 96 products, so that it can memorise them; *lite0* continues from
ImageNet's weights of EfficientNet-Lite0; *long* trains a ResNet18 on all products for 1.2 million images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from benchmarks.catalogue import Catalogue, read_catalogue
from benchmarks.recipe_report import write_report
from benchmarks.recipe_scores import ScoresOfRun, all_scores, quick_scores
from benchmarks.scores import retrieval
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.weights import load_weights, read_weights
from taxonomist.training.pretraining import loop, step
from taxonomist.training.pretraining.moco import MoCo
from taxonomist.training.pretraining.pretrain import Probe, pretrain
from taxonomist.training.pretraining.probe import embed
from taxonomist.training.pretraining.recipe import Recipe, ViewOptions

SMALL_PRODUCTS = 96
POINTS = 8  # of a run at which it is scored, at most
WAITING = 6  # runs whose probes are computed while others train
STRONG = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
_FAST = Recipe(
    batch=64,
    optimiser="adamw",
    lr=1e-3,
    weight_decay=0.05,
    temperature=0.2,
    head_norm=True,
    shuffle_groups=2,
    positives="group",
    views=ViewOptions(min_scale=0.4),
)
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """What runs of one kind share: the base recipe, the images that each sees, and the changes that are tried."""

    base: Recipe
    seen: int
    changes: Mapping[str, Changes]
    products: int | None = None  # trained on; None: all


_CHANGES: Mapping[str, Changes] = {
    "base": {},
    "half of the positives from the same image": {"positives": "mixed"},
    "all positives from the same image": {"positives": "image"},
    "crops from 0.6": {"views.min_scale": 0.6},
    "crops from 0.2": {"views.min_scale": 0.2},
    "temperature 0.1": {"temperature": 0.1},
    "temperature 0.4": {"temperature": 0.4},
    "weight decay 0.5": {"weight_decay": 0.5},
    "batch 256": {"batch": 256, "lr": 2e-3, "shuffle_groups": 4},
    "strong colour": {f"views.{name}": value for name, value in STRONG.items()},
    "key momentum 0.999": {"key_momentum": 0.999},
    "learning rate 0.0003": {"lr": 3e-4},
}
STARTS: Mapping[str, Start] = {
    "small": Start(
        replace(_FAST, size=48, served=64),
        100_000,
        {
            **_CHANGES,
            "distilled from Lite0": {"positives": "image", "distil": 1.0, "contrast": 0.0},
            "distilled from Lite0, and contrast": {"positives": "image", "distil": 4.0},
        },
        SMALL_PRODUCTS,
    ),
    "lite0": Start(
        replace(_FAST, architecture="efficientnet_lite0", weights="imagenet", size=128, served=160, lr=3e-4),
        60_000,
        {
            **{
                name: change
                for name, change in _CHANGES.items()
                if name not in {"temperature 0.4", "learning rate 0.0003"}
            },
            "batch 256": {"batch": 256, "lr": 6e-4, "shuffle_groups": 4},
            "learning rate 0.001": {"lr": 1e-3},
            "learning rate 0.0001": {"lr": 1e-4},
            "first stages frozen": {"frozen": 0.6},
            "first stages frozen, weight decay 0.5": {"frozen": 0.6, "weight_decay": 0.5},
            "mixed positives, batch 256": {"positives": "mixed", "batch": 256, "lr": 6e-4, "shuffle_groups": 4},
        },
    ),
    "long": Start(
        replace(_FAST, size=128, served=160, batch=256, lr=2e-3, shuffle_groups=4),
        1_200_000,
        {
            **_CHANGES,
            "distilled from Lite0": {"positives": "image", "distil": 1.0, "contrast": 0.0},
            "distilled from Lite0, and contrast": {"positives": "image", "distil": 4.0},
            "mixed positives, weight decay 0.5": {"positives": "mixed", "weight_decay": 0.5},
        },
    ),
}


class Distilled(MoCo):
    """MoCo whose encoder also learns to give the embeddings of another network (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531). The loss is `contrast` * InfoNCE + `distil` * (1 - cosine).
    """

    teacher: Tensor  # (images, d): one embedding of each image that is trained on
    contrast, distil = 1.0, 0.0
    teachers_embeddings: NDArray[np.float32]

    def __init__(self, encoder: nn.Module, dimension: int, **options: Any) -> None:
        super().__init__(encoder, dimension, **options)
        self.register_buffer("teacher", torch.from_numpy(self.teachers_embeddings))
        self.to_teacher = nn.Linear(dimension, self.teacher.shape[1])
        self._embedding: Tensor | None = None

    def encode_queries(self, x: Tensor) -> Tensor:
        self._embedding = self.backbone(x)
        return normalize(self.projection_head(self._embedding).float(), dim=1)

    def forward(
        self, x_q: Tensor, x_k: Tensor, ids: Tensor, order: Tensor, local: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        loss, q = super().forward(x_q, x_k, ids, order, local)
        assert self._embedding is not None
        guess = self.to_teacher(self._embedding).float()
        return self.contrast * loss + self.distil * (1 - cosine_similarity(guess, self.teacher[ids])).mean(), q


class Data:
    """The images of one side length, and which of them a run may use."""

    def __init__(self, arguments: argparse.Namespace, size: int, products: int | None) -> None:
        self.all: Catalogue = read_catalogue(arguments.catalogue, size, arguments.folder)
        is_test = self.all.parts == "test"
        others = np.unique(self.all.products[~is_test])
        held_out = np.isin(self.all.products, others[[_share(number) < 0.1 for number in others]])
        kept = np.unique(self.all.products[~is_test & ~held_out])
        if products is not None:
            kept = kept[np.argsort([_share(number + 10_000) for number in kept])[:products]]
        self.rows = np.flatnonzero(np.isin(self.all.products, kept))  # of the images that are trained on
        self.learn = ~is_test & (self.all.views % 4 == 0)
        self.test = is_test & (self.all.views % 2 == 0)
        self.held_out = held_out
        tested = np.unique(self.all.products[is_test])
        pairs = min(len(kept), len(tested))  # products, of either kind, that are compared to see whether it memorises
        self.trained, self.unseen = (
            np.isin(self.all.products, numbers[np.linspace(0, len(numbers) - 1, pairs).astype(int)])
            & (self.all.views % 2 == 0)
            for numbers in (kept, tested)
        )

    @cached_property
    def judged(self) -> NDArray[np.int64]:
        """Rows of the images that are embedded at each scoring."""
        return np.flatnonzero(self.learn | self.test | self.held_out | self.trained)


def _share(number: int) -> float:
    return int(hashlib.sha256(f"tenth:{number}".encode()).hexdigest()[:8], 16) / 2**32


def changed(base: Recipe, changes: Changes) -> Recipe:
    """Return `base` with changes; `views.x` is field x of its views."""
    views = {name.removeprefix("views."): value for name, value in changes.items() if name.startswith("views.")}
    plain = {name: value for name, value in changes.items() if name in base.__dataclass_fields__}
    return replace(base, views=replace(base.views, **views), **plain)


def run(
    start_name: str, name: str, seed: int, arguments: argparse.Namespace, pool: ProcessPoolExecutor
) -> Callable[[], dict[str, Any]]:
    """Train by one recipe; return a function that waits for its scores. A former result is used again."""
    start = STARTS[start_name]
    changes = start.changes[name]
    recipe = replace(changed(start.base, changes), seed=seed)
    seen = arguments.seen or start.seen
    tag = hashlib.sha256(json.dumps([asdict(recipe), dict(changes), seen], sort_keys=True).encode()).hexdigest()[:10]
    target = arguments.folder / f"{start_name}-{tag}.json"
    if target.exists():
        found = json.loads(target.read_text())
        return lambda: found
    data = Data(arguments, recipe.served, start.products)
    recipe = replace(recipe, epochs=max(1, round(seen / len(data.rows))))
    if recipe.weights == "imagenet":
        recipe = replace(recipe, weights=str(arguments.lite0))
    scores = ScoresOfRun()
    began = time.perf_counter()
    judged = data.judged
    subsets = {part: getattr(data, part)[judged] for part in ("learn", "test", "held_out", "trained", "unseen")}
    labels, products = data.all.labels[judged], data.all.products[judged]

    def score(vectors: Tensor, _probe: Probe) -> float:
        point = quick_scores(vectors, labels, products, subsets)
        scores.add(point, vectors)
        return point["held_out"]

    with ExitStack() as stack:
        stack.enter_context(patch.object(loop, "held_out_score", score))
        stack.enter_context(patch.object(loop, "_SCORES", POINTS))
        stack.enter_context(patch.object(loop, "_PATIENCE", 10**6))
        if "distil" in changes:
            Distilled.teachers_embeddings = teacher(arguments, data)
            Distilled.distil, Distilled.contrast = changes["distil"], changes.get("contrast", 1.0)
            stack.enter_context(patch.object(step, "MoCo", Distilled))
        done = pretrain(
            data.all.images,
            recipe,
            arguments.folder / f"run-{start_name}-{tag}",
            rows=data.rows,
            groups=np.unique(data.all.products[data.rows], return_inverse=True)[1],
            probe=Probe(np.array(data.all.images[judged]), labels, products),
            device=arguments.device,
            checkpoint_interval=3600,
        )
    seconds = time.perf_counter() - began
    kinds = data.all.kinds[judged]
    futures: dict[str, Future[dict[str, float]]] = {
        moment: pool.submit(all_scores, vectors, labels, kinds, products, subsets["learn"], subsets["test"])
        for moment, vectors in scores.moments().items()
    }

    def finish() -> dict[str, Any]:
        result = {
            "start": start_name,
            "name": name,
            "seed": seed,
            "changes": dict(changes),
            "seen": done.summary["seen"],
            "seconds": seconds,
            "device": done.summary["device"],
            "precision": done.summary["precision"],
            "products": len(np.unique(data.all.products[data.rows])),
            "losses": _column(done.folder / "curves.csv", "loss"),
            "points": scores.points,
            "best_point": scores.best,
            "scores": {moment: future.result() for moment, future in futures.items()},
        }
        target.write_text(json.dumps(result) + "\n")
        print(f"{seconds:6.1f} s  {start_name}: {name}, seed {seed}: {_line(result)}", flush=True)
        return result

    return finish


def _column(file: Path, name: str) -> list[float]:
    lines = file.read_text().splitlines()
    at = lines[0].split(",").index(name)
    return [round(float(line.split(",")[at]), 4) for line in lines[1:]]


def _line(result: Mapping[str, Any]) -> str:
    cells = []
    for moment in ("best", "last"):
        found = result["scores"][moment]
        cells.append(
            f"{moment} " + " ".join(f"{found[key]:.3f}" for key in ("macro_f1", "level2_accuracy", "retrieval"))
        )
    return ", ".join(cells)


def teacher(arguments: argparse.Namespace, data: Data) -> NDArray[np.float32]:
    """Return the embeddings (n, d) by Lite0 of the images that are trained on, at 160 pixels, centred."""
    images = read_catalogue(arguments.catalogue, 160, arguments.folder).images[data.rows]
    vectors = _embeddings(arguments, images, arguments.lite0)
    centred: NDArray[np.float32] = vectors - vectors.mean(0)
    return centred


def _embeddings(arguments: argparse.Namespace, images: NDArray[np.uint8], weights: Path) -> NDArray[np.float32]:
    module = Backbone("efficientnet_lite0")
    load_weights(module.encoder, read_weights(weights))
    device = torch.device("cuda" if torch.cuda.is_available() and arguments.device != "cpu" else "cpu")
    encoder = module.encoder.to(device).to(memory_format=torch.channels_last)
    vectors: NDArray[np.float32] = embed(encoder, module.architecture, images, device).cpu().numpy()
    return vectors


def as_it_is(arguments: argparse.Namespace, pool: ProcessPoolExecutor) -> Callable[[], dict[str, Any]]:
    """Return the scores of Lite0 with ImageNet's weights, which every run from it has to beat."""
    data = Data(arguments, 160, None)
    vectors = torch.from_numpy(_embeddings(arguments, np.array(data.all.images[data.judged]), arguments.lite0))
    rows = data.judged
    parts = data.learn[rows], data.test[rows]
    future = pool.submit(
        all_scores, vectors, data.all.labels[rows], data.all.kinds[rows], data.all.products[rows], *parts
    )

    def finish() -> dict[str, Any]:
        scores = future.result()
        result = {"start": "lite0", "name": "ImageNet's weights as they are", "seed": 0, "seen": 0, "seconds": 0.0}
        result |= {
            "changes": {},
            "points": [],
            "losses": [],
            "best_point": 0,
            "scores": {"best": scores, "last": scores},
        }
        (arguments.folder / "lite0-as-it-is.json").write_text(json.dumps(result) + "\n")
        print("Lite0 as it is:", _line(result), flush=True)
        return result

    return finish


def by_heart(arguments: argparse.Namespace) -> list[str]:
    """Return for each file of weights of Lite0 its R@1 on trained products and on as many that it has not seen."""
    data = Data(arguments, 160, None)
    lines = ["| weights | R@1, trained on | R@1, not seen |", "| --- | ---: | ---: |"]
    for weights in [arguments.lite0, *arguments.by_heart]:
        cells = []
        for rows in (data.trained, data.unseen):
            vectors = _embeddings(arguments, np.array(data.all.images[rows]), weights)
            cells.append(f"{retrieval(vectors, data.all.products[rows]):.3f}")
        lines.append(f"| {weights.name} | {' | '.join(cells)} |")
    return lines


def ranked(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the recipes, best first, by their best score on held-out products."""
    best: dict[str, float] = {}
    for result in results:
        if result["points"]:
            best[result["name"]] = result["points"][result["best_point"]]["held_out"]
    return sorted(best, key=lambda name: -best[name])


def main() -> None:
    """Run the recipes of the chosen starts, then those that were best with more seeds; results are kept."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="examples:\n  python -m benchmarks.recipes furniture --lite0 lite0.safetensors --folder .study/recipes\n"
        "  python -m benchmarks.recipes furniture --lite0 lite0.safetensors --start small --device cpu\n"
        "  python -m benchmarks.recipes furniture --lite0 lite0.safetensors --report results.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("catalogue", type=Path)
    parser.add_argument(
        "--lite0", type=Path, required=True, help="ImageNet's weights: backbone.safetensors of the starter"
    )
    parser.add_argument("--folder", type=Path, default=Path(".study/recipes"), help="where runs and results are kept")
    parser.add_argument("--start", action="append", choices=[*STARTS], help="default: all")
    parser.add_argument("--only", action="append", help="names of recipes (default: all of a start)")
    parser.add_argument(
        "--best-of", choices=[*STARTS], help="only recipes that were best in finished runs of this start"
    )
    parser.add_argument("--seen", type=int, help="images that each run sees (default: by the start)")
    parser.add_argument("--seeds", type=int, default=3, help="of the base and of the best recipes")
    parser.add_argument("--best", type=int, default=3, help="recipes that get more than one seed")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after this time")
    parser.add_argument("--report", type=Path, help="write tables, values and plot of finished runs, and train nothing")
    parser.add_argument("--about", default="", help="a line of the report: the card and the commands")
    parser.add_argument(
        "--by-heart", type=Path, nargs="+", help="weights of runs from lite0: print R@1 on trained and unseen products"
    )
    arguments = parser.parse_args()
    if arguments.by_heart:
        print(*by_heart(arguments), sep="\n")
        return
    if arguments.report:
        print(*write_report(arguments.folder, arguments.report, arguments.about), sep="\n")
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * arguments.minutes
    spawned = multiprocessing.get_context("spawn")  # a fork would share the GPU's driver
    with ProcessPoolExecutor(max(1, torch.get_num_threads() // 2), spawned) as pool:
        for start in arguments.start or STARTS:
            runs = [(name, 0) for name in STARTS[start].changes if not arguments.only or name in arguments.only]
            if arguments.best_of:
                former = [json.loads(file.read_text()) for file in arguments.folder.glob(f"{arguments.best_of}-*.json")]
                best = [name for name in ranked(former) if name in STARTS[start].changes]
                runs = [(name, 0) for name in best[: arguments.best]]
            results = list(_finished(start, runs, arguments, pool, ends))
            again = list(dict.fromkeys(["base", *ranked(results)[: arguments.best]]))
            runs = [(name, seed) for seed in range(1, arguments.seeds) for name in again]
            results += _finished(start, runs, arguments, pool, ends)


def _finished(
    start: str, runs: Sequence[tuple[str, int]], arguments: argparse.Namespace, pool: ProcessPoolExecutor, ends: float
) -> Iterator[dict[str, Any]]:
    """Yield the results of runs, (name, seed) each. The probes of a few runs are computed while others train."""
    waiting: deque[Callable[[], dict[str, Any]]] = deque()
    if start == "lite0" and not arguments.best_of:
        waiting.append(as_it_is(arguments, pool))
    for name, seed in runs:
        if time.monotonic() > ends:
            break
        try:
            waiting.append(run(start, name, seed, arguments, pool))
        except Exception:
            traceback.print_exc()
        if len(waiting) > WAITING:
            yield waiting.popleft()()
    for finish in waiting:
        yield finish()


if __name__ == "__main__":
    main()
