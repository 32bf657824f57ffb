"""How often do annotators agree, and is what they agree on true? `python -m benchmarks.trust.agreement --help`.

Simulated people annotate images with known labels on a tree. Four ways to come to a label are compared: two thirds,
majority and Dawid-Skene as the product has them, and Dawid and Skene's own model, which sees each set of paths as one
of many classes and knows no tree. Half of the people's worlds are kind, as the models assume: mistakes are independent
and name any node. In the others some images are hard for all, and most mistakes name the same look-alike.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.run import RESULTS, say
from benchmarks.trust.leaf_model import leaf_labels
from benchmarks.trust.simulated_people import HARSH, KIND, Scenario, Simulation, simulate
from taxonomist.taxonomy.agreement import AgreementPolicy, Answer, ImageAnswers, Weights, decide, fit, skills
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.paths import deepest, prefixes

_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_RULES = ("two_thirds", "majority", "dawid_skene", "leaves")
_TREES = {"2 levels": (8, 6), "3 levels": (6, 4, 3)}
_TEAMS = ((3, 3, 0), (3, 3, 1), (5, 5, 0), (5, 5, 2), (7, 7, 0), (7, 7, 2), (3, 10, 0), (3, 10, 2))
_FIRST_SEED = 6000
NOTES = """
Each cell: the share of images with a label at any level / with a label at the deepest level / the share of the images
with a label where all of it is true. A label at an inner node is true where a true path goes through it. Bold: at least
as many images with a label of the deepest level as each other way, and at least as true.

- *people*: how many annotate each image, *of* how many in the team, *guess*: how many of the team name a random path.
- The others are right at each level in 75 to 97 % of the cases, drawn for each person and level; they stop above a node
  in 5 %. With *several* labels an image has one to three; a person forgets each of them in 10 %, adds one in 5 %.
- *kind*: mistakes are independent, and each other node below the parent is as likely. *harsh*: 15 % of the images are
  hard, where all are right in 35 percentage points less; 60 % of the mistakes name the same look-alike.
- *two_thirds*, *majority* and *dawid_skene* are the product's rules with their defaults. *leaves* is Dawid and Skene's
  model with a confusion matrix for each person (counts of 0.1 added on the diagonal, 0.01 elsewhere), whose classes are
  the sets of paths that were named; a class needs the same probability, 0.9, and the same two people.
- Guessers named: those that `taxonomist doctor` would name, of those who guess, and of the others.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="images of a simulation (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="simulations of each scenario (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    parser.add_argument("--name", default="2026-11-28-agreement", help="name of the files (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = []
    for about, scenario in _scenarios():
        runs = [_run(scenario, options.images, _FIRST_SEED + seed) for seed in range(options.seeds)]
        rows.append({**about, **asdict(scenario), "results": _mean(runs)})
        say(f"{about}: {rows[-1]['results']}")
    command = f"python -m benchmarks.trust.agreement --images {options.images} --seeds {options.seeds}"
    seeds = f"{_FIRST_SEED} to {_FIRST_SEED + options.seeds - 1}"
    text = _table(rows, f"`{command}`, seeds {seeds}, {options.images} images in each of {options.seeds} simulations")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{options.name}.md").write_text(text.replace("NAME", options.name), encoding="utf-8")
    record = {"command": command, "seeds": seeds, "rows": rows}
    (options.output / f"{options.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _plot(rows, options.output / f"{options.name}.png")
    return 0


def _scenarios() -> Iterator[tuple[dict[str, str], Scenario]]:
    for world, mistakes in (("kind", KIND), ("harsh", HARSH)):
        for tree, widths in _TREES.items():
            for several in (False, True):
                for people, team, guessers in _TEAMS:
                    about = {"world": world, "tree": tree, "labels": "several" if several else "one"}
                    yield about, Scenario(widths, people, team, guessers, several, mistakes)


def _run(scenario: Scenario, images: int, seed: int) -> dict[str, list[float]]:
    """Return for each rule the shares with a label, with one at the deepest level, and of true ones; for the guessers
    how many are named of how many, and of the others."""
    simulation = simulate(scenario, images, seed)
    answers = [ImageAnswers(said) for said in simulation.answers]
    rates = fit(answers, simulation.tree)
    annotations = [_annotations(said) for said in simulation.answers]
    rules: dict[str, tuple[AgreementPolicy, Weights | None]] = {
        "two_thirds": (AgreementPolicy(), None),
        "majority": (replace(AgreementPolicy(), min_agreement=None), None),
        "dawid_skene": (AgreementPolicy(), Weights(simulation.tree, rates)),
    }
    found = {
        name: _score(simulation, [_nodes(decide(said, "media", policy, weights).accepted) for said in annotations])
        for name, (policy, weights) in rules.items()
    }
    found["leaves"] = _score(simulation, leaf_labels(simulation.answers))
    named = [skill.guesses for skill in skills(answers, simulation.tree, rates)]
    guess, rest = named[: scenario.guessers], named[scenario.guessers :]
    return {**found, "guessers": [sum(guess), len(guess), sum(rest), len(rest)]}


def _annotations(said: Mapping[str, Answer]) -> list[Annotation]:
    return [
        Annotation(person, "1", person, _TIME, _TIME, {"media": deepest(nodes)}, (), False, False, False)
        for person, nodes in said.items()
    ]


def _nodes(paths: Sequence[tuple[str, ...]]) -> Answer:
    return frozenset(node for path in paths for node in prefixes(path))


def _score(simulation: Simulation, labels: Sequence[Answer]) -> list[float]:
    depth = simulation.tree.depth
    has_label = [bool(label) for label in labels]
    is_deep = [any(len(node) == depth for node in label) for label in labels]
    is_true = [label <= truth for label, truth in zip(labels, simulation.truths, strict=True) if label]
    return [float(np.mean(has_label)), float(np.mean(is_deep)), float(np.mean(is_true)) if is_true else float("nan")]


def _mean(runs: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rule in _RULES:
        found[rule] = [round(float(np.nanmean(values)), 3) for values in zip(*(run[rule] for run in runs), strict=True)]
    found["guessers"] = [sum(values) for values in zip(*(run["guessers"] for run in runs), strict=True)]
    return found


def _table(rows: Sequence[Mapping[str, Any]], about: str) -> str:
    lines = ["# Agreement of simulated people", "", about, ""]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["world"], row["tree"], row["labels"]].append(row)
    for (world, tree, labels), members in groups.items():
        lines += [f"## {world}, {tree}, {labels} label{'s' if labels == 'several' else ''}", ""]
        lines += ["| people | of | guess | " + " | ".join(_RULES) + " | guessers named | others named |"]
        lines += ["| ---: | ---: | ---: | " + "| ".join("---: " for _ in _RULES) + "| ---: | ---: |"]
        for row in members:
            results = row["results"]
            cells = [_cell(results, rule) for rule in _RULES]
            right, guess, wrong, rest = results["guessers"]
            lines.append(
                f"| {row['people']} | {row['team']} | {row['guessers']} | {' | '.join(cells)} "
                f"| {right:.0f} of {guess:.0f} | {wrong:.0f} of {rest:.0f} |"
            )
        lines.append("")
    return "\n".join([*lines, "![Labels and how many are true](NAME.png)", NOTES])


def _cell(results: Mapping[str, list[float]], rule: str) -> str:
    own = results[rule]
    text = " / ".join(f"{value:.2f}" for value in own)
    others = [results[other] for other in _RULES if other != rule]
    return f"**{text}**" if all(own[1] >= other[1] and own[2] >= other[2] for other in others) else text


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot for each world and number of labels the true share over the share of images with a deepest label."""
    figure = Figure(figsize=(9, 7), layout="constrained", facecolor="white", dpi=110)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, (world, labels) in zip(
        panels.flat, [(world, labels) for world in ("kind", "harsh") for labels in ("one", "several")], strict=True
    ):
        own = [row for row in rows if (row["world"], row["labels"]) == (world, labels)]
        for rule, colour, marker in zip(_RULES, ("tab:orange", "tab:grey", "tab:blue", "tab:red"), "s^oD", strict=True):
            points = np.array([row["results"][rule] for row in own])
            axes.scatter(points[:, 1], points[:, 2], color=colour, marker=marker, label=rule, alpha=0.7)
        axes.set_title(f"{world}, {labels} label{'s' if labels == 'several' else ''}", fontsize=10)
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("images with a label of the deepest level")
    for axes in panels[:, 0]:
        axes.set_ylabel("share of labels that are true")
    panels[0, 0].legend(fontsize=8)
    canvas.print_figure(path, format="png")


if __name__ == "__main__":
    raise SystemExit(main())
