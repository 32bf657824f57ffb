"""The table and the plot of `benchmarks.trust.order`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

_WANTED = 0.29  # macro-F1

Row = Mapping[str, Any]


def write_table(folder: Path, name: str, rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Write DATE-NAME.md and .png into the folder; return the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC).date()}-{name}.md"
    plot_path = path.with_suffix(".png")
    _plot(rows, plot_path)
    text = _markdown(rows, about, plot_path.name)
    path.write_text(text)
    return text


def labels_needed(labels: Sequence[int], scores: Sequence[float], wanted: float) -> float:
    """Return the number of labels at which a curve first reaches a score, between two points by a straight line.

    `inf` when it does not reach it.
    """
    for number, score in enumerate(scores):
        if score >= wanted:
            if number == 0:
                return float(labels[0])
            before = scores[number - 1]
            part = (wanted - before) / (score - before)
            return labels[number - 1] + part * (labels[number] - labels[number - 1])
    return float("inf")


def _markdown(rows: Sequence[Row], about: Mapping[str, Any], plot_name: str) -> str:
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    budgets = sorted({row["labels"] for row in rows})
    by_cell = _cells(rows)
    machine = about["machine"]
    lines = [
        "# What to label next",
        "",
        f"`{about['command']}`, {about['splits']} splits by product from seed {about['seed']} on, "
        f"{machine['cpu']}, {machine['date']}.",
        "",
        "A third of the products is tested. *ours* is the product's order: TypiClust up to 400 labels, "
        "then products with the fewest labels. With a random share, that share of the images is drawn at random.",
        "",
        f"![Macro-F1 by labels]({plot_name})",
        "",
        "## Macro-F1 on products that were not labelled",
        "",
        f"| order | {' | '.join(f'{budget:,}' for budget in budgets)} | labels for {_WANTED} |",
        f"| --- |{' --: |' * (len(budgets) + 1)}",
    ]
    for arm in arms:
        means = [float(np.mean([row["macro_f1"] for row in by_cell[arm, budget]])) for budget in budgets]
        needed = labels_needed(budgets, means, _WANTED)
        shown = f"{needed:.0f}" if np.isfinite(needed) else f"more than {budgets[-1]}"
        lines.append(f"| {arm} | {' | '.join(f'{mean:.3f}' for mean in means)} | {shown} |")
    lines += _differences(arms, budgets, by_cell)
    lines += [
        "",
        "## Hierarchical F1",
        "",
        f"| order | {' | '.join(f'{budget:,}' for budget in budgets)} |",
        f"| --- |{' --: |' * len(budgets)}",
    ]
    for arm in arms:
        means = [float(np.mean([row["f1"] for row in by_cell[arm, budget]])) for budget in budgets]
        lines.append(f"| {arm} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    for target in sorted({promise["target"] for row in rows for promise in row["promises"]}):
        lines += _promises(arms, budgets, by_cell, target)
    return "\n".join(lines) + "\n"


def _differences(arms: Sequence[str], budgets: Sequence[int], by_cell: Mapping[Any, Sequence[Row]]) -> list[str]:
    """Return the table of paired differences to the random order, with their standard errors."""
    if "random" not in arms:
        return []
    lines = [
        "",
        "## Macro-F1 less that of the random order, on the same splits (± standard error)",
        "",
        f"| order | {' | '.join(f'{budget:,}' for budget in budgets)} |",
        f"| --- |{' --: |' * len(budgets)}",
    ]
    for arm in arms:
        if arm == "random":
            continue
        cells = []
        for budget in budgets:
            base = {row["seed"]: row["macro_f1"] for row in by_cell["random", budget]}
            gains = np.array([row["macro_f1"] - base[row["seed"]] for row in by_cell[arm, budget]])
            error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
            cells.append(f"{gains.mean():+.3f} ± {error:.3f}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def _promises(
    arms: Sequence[str], budgets: Sequence[int], by_cell: Mapping[Any, Sequence[Row]], target: float
) -> list[str]:
    lines = [
        "",
        f"## Suggestions, target {target:g}",
        "",
        "The threshold is from all labels, or from those that were drawn at random. *right*: of the suggestions of all "
        "splits together. *below*: splits whose suggestions were right less often than the target, of the splits with "
        "suggestions. *given*: suggestions per image.",
        "",
        "| order | threshold from | labels | of them random | right | below | given |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for arm in arms:
        for which in ("all", "random"):
            for budget in budgets:
                cell = by_cell[arm, budget]
                drawn = float(np.mean([row["drawn"] for row in cell]))
                if (which == "all" and arm == "random") or (which == "random" and not drawn):
                    continue
                counts = [
                    next(p for p in row["promises"] if p["target"] == target and p["from"] == which) for row in cell
                ]
                images, suggested, right = (sum(c[key] for c in counts) for key in ("images", "suggested", "right"))
                if budget < 200 and not suggested:
                    continue
                given = [c for c in counts if c["suggested"]]
                below = sum(c["right"] / c["suggested"] < target for c in given)
                share = f"{right / suggested:.3f}" if suggested else "–"
                lines.append(
                    f"| {arm} | {which} | {budget:,} | {drawn:.0f} | {share} | {below} of {len(given)} "
                    f"| {suggested / images:.3f} |"
                )
    return lines


def _cells(rows: Sequence[Row]) -> Mapping[tuple[str, int], list[Row]]:
    cells: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row["arm"], row["labels"]].append(row)
    return cells


def _plot(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_cell = _cells(rows)
    figure = Figure(figsize=(8, 4.6), layout="constrained", facecolor="white", dpi=110)
    axes = figure.subplots()
    for arm in dict.fromkeys(row["arm"] for row in rows):
        budgets = sorted({row["labels"] for row in rows if row["arm"] == arm})
        means = [np.mean([row["macro_f1"] for row in by_cell[arm, budget]]) for budget in budgets]
        axes.plot(budgets, means, marker="o", markersize=3, label=arm, linestyle="--" if arm == "random" else "-")
    axes.axhline(_WANTED, color="tab:grey", linewidth=0.7)
    axes.set_xlabel("labels")
    axes.set_ylabel("macro-F1, products without a label")
    axes.legend(frameon=False, fontsize=8)
    FigureCanvasAgg(figure).print_figure(path, format="png")
