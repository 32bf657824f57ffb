"""Scores of backbones on products that no training has seen: `python -m benchmarks.backbones --help`.

The protocol: the products of the hash quarter "test" (benchmarks/catalogue.py) are held out. A linear probe, balanced
logistic regression on standardised embeddings, learns from every fourth view of the other products, and is tested on
every second view of the held-out ones. With few labels it learns from 411 of those images, one for a product. R@1 is
the share of the tested images whose nearest other one shows the same product.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue import Catalogue, read_catalogue
from benchmarks.measure import machine
from benchmarks.scores import linear_probe, probe, retrieval
from benchmarks.starter import LITE0, QUANTISED_FILE, SIZE, export_starter
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER

FEW, DRAWS = 411, 5
RESAMPLES, SEED = 2000, 0
ROUNDS = 15  # of the timing


@dataclass(frozen=True)
class Row:
    """A backbone and its scores; `guess` (m,) are the probe's level-1 classes of the tested images."""

    name: str
    file: Path
    scores: dict[str, float]
    guess: NDArray[np.int64]


def learned(catalogue: Catalogue) -> NDArray[np.bool_]:
    """Return which images (n,) the probe learns from."""
    rows: NDArray[np.bool_] = (catalogue.parts != "test") & (catalogue.views % 4 == 0)
    return rows


def tested(catalogue: Catalogue) -> NDArray[np.bool_]:
    """Return which images (n,) are tested."""
    rows: NDArray[np.bool_] = (catalogue.parts == "test") & (catalogue.views % 2 == 0)
    return rows


def judge(name: str, file: Path, folder: Path, cache: Path) -> Row:
    """Return the scores of a backbone's ONNX file on the catalogue in `folder`; they are kept in the folder `cache`."""
    kept = cache / f"scores-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}.json"
    if kept.exists():
        found = json.loads(kept.read_text())
        return Row(name, file, found["scores"], np.array(found["guess"]))
    embedder = Embedder(file, threads=1)
    catalogue = read_catalogue(folder, embedder.size, cache)
    learn, test = learned(catalogue), tested(catalogue)
    x, test_x = (embedder.embed(np.array(catalogue.images[rows])) for rows in (learn, test))
    y, test_y = catalogue.labels[learn], catalogue.labels[test]
    known = np.isin(catalogue.kinds[test], catalogue.kinds[learn])
    first = linear_probe(x, y, test_x, test_y)
    second = linear_probe(x, catalogue.kinds[learn], test_x[known], catalogue.kinds[test][known])
    few = []
    for draw in range(DRAWS):
        rows = few_rows(catalogue.products[learn], draw)
        few.append(linear_probe(x[rows], y[rows], test_x, test_y)["macro_f1"])
    scores = {
        "accuracy": first["accuracy"],
        "macro_f1": first["macro_f1"],
        "level2_accuracy": second["accuracy"],
        "level2_macro_f1": second["macro_f1"],
        "few_macro_f1": statistics.fmean(few),
        "retrieval": retrieval(test_x, catalogue.products[test]),
        "dimension": embedder.dimension,
        "megabytes": file.stat().st_size / 1e6,
    }
    guess = probe(x, y, test_x)
    kept.write_text(json.dumps({"scores": scores, "guess": guess.tolist()}))
    return Row(name, file, scores, guess)


def few_rows(products: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return rows of at most 411 images, each of another product, drawn at random."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(products))
    _, first = np.unique(products[order], return_index=True)
    return np.sort(random.permutation(order[first])[:FEW])


def macro_f1_differences(
    truth: NDArray[np.int64], ours: NDArray[np.int64], theirs: NDArray[np.int64], products: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the differences in macro-F1 (2000,), ours less theirs, over resamples of the products with replacement.

    All arrays have shape (m,). A class counts where it is true or guessed, as in scikit-learn.
    """
    count = int(max(truth.max(), ours.max(), theirs.max())) + 1
    number = np.unique(products, return_inverse=True)[1]
    drawn = np.random.default_rng(SEED).multinomial(
        number.max() + 1, np.full(number.max() + 1, 1 / (number.max() + 1)), RESAMPLES
    )
    scores = []
    for guess in (ours, theirs):
        table = np.zeros((number.max() + 1, 3, count))  # hits, truths and guesses of a product, by class
        np.add.at(table[:, 0], (number[guess == truth], truth[guess == truth]), 1)
        np.add.at(table[:, 1], (number, truth), 1)
        np.add.at(table[:, 2], (number, guess), 1)
        hits, truths, guesses = np.moveaxis(np.einsum("rp,pkc->rkc", drawn, table), 1, 0)
        total = truths + guesses
        scores.append((2 * hits / np.maximum(total, 1)).sum(1) / (total > 0).sum(1))
    differences: NDArray[np.float64] = scores[0] - scores[1]
    return differences


def exported(size: int, folder: Path) -> tuple[Path, Path]:
    """Return the starter for images of `size` pixels in float32 and in 8-bit integers; it is made once."""
    files = folder / BACKBONE_FILE, folder / QUANTISED_FILE
    if not files[1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        export_starter(size, folder)
    return files


def milliseconds(files: Sequence[Path]) -> list[tuple[float, float]]:
    """Return the milliseconds of one processor for an image at batch 1 and at batch 16 of each file.

    They are the least of all rounds, in each of which all files take their turn: so other processes hardly count.
    """
    embedders = [Embedder(file, threads=1) for file in files]
    random = np.random.default_rng(SEED)
    times: list[dict[int, list[float]]] = [{1: [], 16: []} for _ in files]
    for _ in range(ROUNDS):
        for embedder, found in zip(embedders, times, strict=True):
            for batch in (1, 16):
                images = random.integers(0, 256, (batch, embedder.size, embedder.size, 3), np.uint8)
                embedder.embed(images)
                began = time.process_time()
                embedder.embed(images)
                found[batch].append(1000 * (time.process_time() - began) / batch)
    return [(min(found[1]), min(found[16])) for found in times]


def write_table(rows: Sequence[Row], catalogue: Catalogue, times: Sequence[tuple[float, float]], command: str) -> str:
    """Return the table as Markdown. The first of the `rows` is what the others are compared with."""
    test = tested(catalogue)
    truth, products = catalogue.labels[test], catalogue.products[test]
    about = machine()
    lines = [
        "# The starter, and what it is compared with",
        "",
        f"`{command}`",
        "",
        f"{len(truth):,} images of {len(np.unique(products))} products that no probe has seen; the probe learns from "
        f"{learned(catalogue).sum():,} images of the others, with *few* labels from {FEW} of them, one for a product "
        f"(mean of {DRAWS} draws, seeds 0 to {DRAWS - 1}). Level 2 counts images whose class is in training. "
        "*Difference*: level-1 macro-F1 less that of the first row, with the 95 % interval of "
        f"{RESAMPLES:,} resamples of the tested products (seed {SEED}). Times are milliseconds of one processor "
        f"for an image, the least of {ROUNDS} rounds in turn. "
        "The ranges of 8-bit activations come from 200 images of the demo, some of which show tested products. "
        "The images are rendered catalogue products of 160 x 160 pixels: larger ones were scaled up. "
        f"{about['cpu']}, {about['cores']} cores, {str(about['date'])[:10]}.",
        "",
        "| backbone | level 1 accuracy | macro-F1 | difference | level 2 accuracy | macro-F1 | few, macro-F1 | R@1 "
        "| numbers | MB | ms, batch 1 | batch 16 |",
        "| --- |" + " ---: |" * 11,
    ]
    for row, (single, many) in zip(rows, times, strict=True):
        scores, difference = row.scores, ""
        if row is not rows[0]:
            drawn = macro_f1_differences(truth, row.guess, rows[0].guess, products)
            low, high = np.quantile(drawn, [0.025, 0.975])
            difference = f"{scores['macro_f1'] - rows[0].scores['macro_f1']:+.3f} ({low:+.3f} to {high:+.3f})"
        cells = [
            row.name,
            f"{scores['accuracy']:.3f}",
            f"{scores['macro_f1']:.3f}",
            difference,
            *(f"{scores[name]:.3f}" for name in ("level2_accuracy", "level2_macro_f1", "few_macro_f1", "retrieval")),
            f"{scores['dimension']:.0f}",
            f"{scores['megabytes']:.1f}",
            f"{single:.1f}",
            f"{many:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge the starter in both number formats and sizes, and the files that are named."""
    parser = argparse.ArgumentParser("python -m benchmarks.backbones", description=__doc__)
    parser.add_argument("catalogue", type=Path, help="folder with manifest.csv and images/")
    parser.add_argument("--former", type=Path, required=True, help="backbone.onnx of the former starter: the first row")
    parser.add_argument("--sizes", type=int, nargs="*", default=[224], help="further sides in pixels (default: 224)")
    parser.add_argument(
        "--cache", type=Path, default=Path(".study/recipes"), help="where images, networks and scores are kept"
    )
    parser.add_argument("--output", type=Path, help="the Markdown file that is written")
    arguments = parser.parse_args()
    files = {"former starter (ResNet18, MoCo v2), int8, 80 px": arguments.former}
    files[f"**starter: {LITE0}, int8, {SIZE} px**"] = FOLDER / BACKBONE_FILE
    for size in (SIZE, *arguments.sizes):
        exact, quantised = exported(size, arguments.cache / f"starter-{size}")
        files[f"the same, fp32, {size} px"] = exact
        if size != SIZE:
            files[f"the same, int8, {size} px"] = quantised
    rows = [judge(title, file, arguments.catalogue, arguments.cache) for title, file in files.items()]
    times = milliseconds([row.file for row in rows])
    catalogue = read_catalogue(arguments.catalogue, SIZE, arguments.cache)
    sizes = " ".join(map(str, arguments.sizes))
    table = write_table(
        rows, catalogue, times, f"python -m benchmarks.backbones CATALOGUE --former backbone.onnx --sizes {sizes}"
    )
    print(table)
    if arguments.output:
        arguments.output.write_text(table)


if __name__ == "__main__":
    main()
