"""The ensemble beside linear discriminant analysis: quality, and whether its promise holds, on products without labels.

Both learn from the same labels of a catalogue and are calibrated as the product does it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import machine
from benchmarks.promise_catalogue import (
    CONTROL,
    LITE0,
    TREES,
    Catalogue,
    embeddings_of,
    read_catalogue,
    read_embeddings,
)
from benchmarks.promise_heads import fit_ensemble, scores
from benchmarks.promise_rules import CONFIDENCE, Images, fit, shown
from benchmarks.run import RESULTS, say
from taxonomist.taxonomy.calibration import fit_promise
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.path_probabilities import FloatArray

EXAMPLE = """example:
  python -m benchmarks.trust.ensemble --catalogue shared/furniture --work /tmp/ensemble --embeddings /tmp/lite0.npz
"""
HEADS, TARGETS = ("lda", "ensemble"), (0.8, 0.9)
NOTES = """
Means over the splits. No product is on both sides of a split. *F1* is the hierarchical F1 of the most likely leaf,
*log-loss* that of the deepest known node, *seconds* are of one core, for learning and predicting, on a machine that
others used as well. By target: the mean *precision* of the splits with suggestions, how many of these are *below* the
target, and *coverage*, the share of the tested images with a suggestion. `benchmarks.promise` says what a split is.
"""


def run(catalogue: Catalogue, labels: int, test_share: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of both heads on one split."""
    tree = catalogue.tree
    learning, testing = Images.split(catalogue, labels, test_share, seed)
    began = time.process_time()
    fitted = fit(learning, tree)
    found = fitted.weights.probabilities(testing.x)
    seconds = time.process_time() - began
    yield _figures(learning, testing, catalogue, fitted.held_out, found) | {"head": "lda", "seconds": seconds}
    head, held_out = fit_ensemble(learning, tree, fitted, seed)
    found = np.exp(head.log_probabilities(testing.x, {CONTROL: tree}, {})[CONTROL])
    seconds = time.process_time() - began
    yield _figures(learning, testing, catalogue, held_out, found) | {"head": "ensemble", "seconds": seconds}


def _figures(
    learning: Images, testing: Images, catalogue: Catalogue, held_out: FloatArray, found: FloatArray
) -> dict[str, Any]:
    f1, loss = scores(learning, testing, catalogue.tree, found)
    figures: dict[str, Any] = {"f1": f1, "loss": loss}
    for target in TARGETS:
        calibration = fit_promise(
            catalogue.tree,
            held_out,
            learning.truths,
            learning.products,
            target_precision=target,
            confidence=CONFIDENCE,
        )
        right = [
            path[: len(suggestion.paths[0])] == suggestion.paths[0]
            for suggestion, path in zip(shown(catalogue.tree, found, calibration), testing.paths, strict=True)
            if suggestion
        ]
        figures[str(target)] = [len(testing.paths), len(right), sum(right)]
    return figures


def table(results: Sequence[dict[str, Any]], about: str) -> str:
    """Return the table of the results in Markdown."""
    promised = " | ".join(f"precision at {target} | below | coverage" for target in TARGETS)
    head = f"| tree | labels | head | splits | F1 | log-loss | seconds | {promised} |"
    lines = ["# The ensemble", "", about, NOTES, head, "|" + " --- |" * (head.count("|") - 1)]
    for key in dict.fromkeys((row["tree"], row["labels"], row["head"]) for row in results):
        rows = [row for row in results if (row["tree"], row["labels"], row["head"]) == key]
        cells = [*map(str, key), str(len(rows))]
        cells += [f"{np.mean([row[name] for row in rows]):.3f}" for name in ("f1", "loss")]
        cells.append(f"{np.mean([row['seconds'] for row in rows]):.1f}")
        for target in TARGETS:
            counts = np.array([row[str(target)] for row in rows], np.float64)
            made = counts[counts[:, 1] > 0]
            precision = made[:, 2] / made[:, 1]
            cells.append(f"{precision.mean():.3f}" if len(made) else "")
            cells += [f"{(precision < target).sum()} of {len(made)}", f"{(counts[:, 1] / counts[:, 0]).mean():.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.work.mkdir(parents=True, exist_ok=True)
        given = {LITE0: options.embeddings} if options.embeddings else {}
        x = read_embeddings(embeddings_of(LITE0, options.catalogue, given, options.work))
        results = list(_results(options, {tree: read_catalogue(options.catalogue, tree, x) for tree in options.trees}))
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    command = (
        f"python -m benchmarks.trust.ensemble --catalogue CATALOGUE --work WORK --labels "
        f"{' '.join(map(str, options.labels))} --trees {' '.join(options.trees)} --splits {options.splits} --seed "
        f"{options.seed} --test-share {options.test_share}"
    )
    text = table(results, f"`{command}`, EfficientNet-Lite0 at 160 pixels. {machine()['cpu']}")
    (options.output / f"{options.name}.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _results(options: argparse.Namespace, catalogues: dict[str, Catalogue]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all splits; those that an earlier call has finished are in a file of `work`."""
    path = options.work / "ensemble.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    for tree, catalogue in catalogues.items():
        for labels in options.labels:
            for seed in range(options.seed, options.seed + options.splits):
                job = {"tree": tree, "labels": labels, "seed": seed, "test_share": options.test_share}
                done = [row for row in rows if job.items() <= row.items()]
                if not done:
                    done = [job | row for row in run(catalogue, labels, options.test_share, seed)]
                    with path.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(row) + "\n" for row in done)
                yield from done
            say(f"{tree}, {labels} labels")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.trust.ensemble",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--catalogue", type=Path, required=True, metavar="FOLDER", help="has images/ and manifest.csv")
    add("--work", type=Path, required=True, metavar="FOLDER", help="where embeddings and finished splits are kept")
    add("--embeddings", type=Path, metavar="FILE.npz", help="ready embeddings of EfficientNet-Lite0 at 160 pixels")
    add("--labels", type=int, nargs="+", default=[400, 1000], help="default: 400 1000")
    add("--trees", nargs="+", choices=list(TREES), default=list(TREES), help="default: all")
    add("--splits", type=int, default=20, help="default: %(default)s")
    add("--seed", type=int, default=7000, help="of the first split (default: %(default)s)")
    add("--test-share", type=float, default=0.3, help="of the products (default: %(default)s)")
    add("--name", default="ensemble", help="of the result's file (default: %(default)s)")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the table (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
