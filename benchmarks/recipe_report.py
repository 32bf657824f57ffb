"""The report of `benchmarks.recipes`: a table for each start, a plot of the base's curves, and all values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Result = Mapping[str, Any]
_COLUMNS = {"accuracy": "L1 acc.", "macro_f1": "L1 macro-F1", "level2_accuracy": "L2 acc.", "retrieval": "R@1"}
_STYLES = {"trained": ("tab:red", "trained on"), "held_out": ("tab:orange", "held out"), "test": ("tab:blue", "tested")}
_SAME_LENGTH = 1.15
_SCORES = {"retrieval": "R@1", "macro_f1": "level 1 macro-F1"}


def read_results(folder: Path) -> list[Result]:
    """Return the results in a folder and the folders below it, those that are equal once."""
    texts = {path.read_text() for path in sorted(folder.rglob("*.json")) if not path.parent.name.startswith("run-")}
    return sorted(map(json.loads, texts), key=lambda result: (result["start"], result["name"], result["seed"]))


def write_report(folder: Path, target: Path, about: str) -> list[Path]:
    """Write tables, values and plot beside each other, named as `target`; return their paths.

    `about` says how the results were made.
    """
    results = read_results(folder)
    made = [target.with_suffix(suffix) for suffix in (".md", ".json", ".png")]
    made[0].write_text("\n".join(["# Recipes of pre-training", "", about, *_tables(results)]) + "\n")
    made[1].write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")
    plot(results, made[2])
    return made


def seen_at(result: Result) -> list[int]:
    """Return the number of images seen at each point of a run: equally spaced, the last one at the end."""
    segments, points = len(result["losses"]), len(result["points"])
    step = max(1, segments // (points - 1 if points > 1 and segments % points else points))
    return [round(min((point + 1) * step, segments) / segments * result["seen"]) for point in range(points)]


def _tables(results: Sequence[Result]) -> list[str]:
    lines = []
    for start in ("small", "lite0", "long"):
        own = [result for result in results if result["start"] == start]
        lengths: list[list[int]] = []  # batches of another size make runs a little shorter
        for seen in sorted({result["seen"] for result in own if result["points"]}):
            if not lengths or seen > _SAME_LENGTH * lengths[-1][0]:
                lengths.append([])
            lengths[-1].append(seen)
        for length in lengths:
            compared = [result for result in own if result["seen"] in {*length, 0}]
            products = max(result.get("products", 0) for result in compared)
            lines += ["", f"## {start}: {length[-1]:,} images seen, {products} products trained on", "", *_head()]
            rows: dict[str, list[Result]] = {}
            for result in compared:
                rows.setdefault(result["name"], []).append(result)
            lines += [_row(runs) for runs in sorted(rows.values(), key=lambda runs: -_held_out(runs))]
    return lines


def _head() -> list[str]:
    names = ["recipe", "seeds", "held out", *_COLUMNS.values(), *(f"end: {name}" for name in _COLUMNS.values())]
    names.append("s a run")
    return [f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]


def _held_out(runs: Sequence[Result]) -> float:
    found = [run["points"][run["best_point"]]["held_out"] for run in runs if run["points"]]
    return float(np.mean(found)) if found else 0.0


def _row(runs: Sequence[Result]) -> str:
    cells = [str(len({run["seed"] for run in runs})), f"{_held_out(runs):.3f}" if runs[0]["points"] else ""]
    for moment in ("best", "last"):
        cells += [_spread([run["scores"][moment][column] for run in runs]) for column in _COLUMNS]
    cells.append(f"{np.median([run['seconds'] for run in runs]):.0f}" if runs[0]["points"] else "")
    return f"| {runs[0]['name']} | {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def plot(results: Sequence[Result], path: Path) -> None:
    """Plot the scores over images seen: of the base, one line for each seed, and of the longest run of each start."""
    panels = []
    for start in ("small", "lite0", "long"):
        own = [result for result in results if result["start"] == start and result["points"]]
        base = [result for result in own if result["name"] == "base"]
        if base:
            panels.append((f"{start}: base, {len(base)} seeds" if len(base) > 1 else f"{start}: base", base))
        longest = max(own, key=lambda result: (result["seen"], _held_out([result])), default=None)
        if longest is not None and longest not in base and longest["seen"] > base[0]["seen"]:
            panels.append((f"{start}: {longest['name']}", [longest]))
    size = (1.0 + 3.3 * len(panels), 5.6)
    figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=110)
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(len(_SCORES), len(panels), sharex="col", sharey="row", squeeze=False)
    for column, (title, runs) in enumerate(panels):
        grid[0, column].set_title(title, fontsize=10)
        grid[-1, column].set_xlabel("images seen, thousands")
        for row, (score, label) in enumerate(_SCORES.items()):
            axes = grid[row, column]
            axes.grid(axis="y", color="0.9")
            if column == 0:
                axes.set_ylabel(label)
            for part, (colour, name) in _STYLES.items():
                for number, run in enumerate(run for run in runs if f"{part}_{score}" in run["points"][0]):
                    values = [point[f"{part}_{score}"] for point in run["points"]]
                    places = [seen / 1000 for seen in seen_at(run)]
                    shown = name if number == 0 else None
                    axes.plot(places, values, color=colour, marker=".", linewidth=1.2, label=shown)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    canvas.print_figure(path, format="png")
