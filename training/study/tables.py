"""The tables of a study, each as Markdown and as CSV: those of the thesis (6.2 to 6.6), and further comparisons."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.scores import (
    Gain,
    Resampled,
    Scores,
    Stat,
    class_stats,
    head_scores,
    known_rows,
    level_stats,
    probe_scores,
)
from taxonomist.training.study.trial import Trial

Trials = Mapping[str, Sequence[Trial]]
"""The runs of each contestant, by its name, in order of the seeds."""
Cell = str | int | Stat | Gain
_ROWS = 60  # of a table in Markdown; the CSV has all


@dataclass(frozen=True)
class Table:
    """`name` is that of its file. A Stat or a Gain is one cell in Markdown; in CSV each of its numbers has a cell."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    digits: int = 2

    def markdown(self) -> str:
        """Return the table with its title."""
        rows = [[_cell(self._text(value)) for value in row] for row in self.rows[:_ROWS]]
        lines = [self.header, ["---"] * len(self.header), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        more = f"{len(self.rows) - _ROWS} more rows are in {self.name}.csv." if len(self.rows) > _ROWS else ""
        return "\n\n".join(filter(None, [f"### {self.title}", table, more, self.note])) + "\n"

    def csv(self) -> str:
        """Return the table as comma-separated values with four decimals."""
        parts = [_parts(column) for column in zip(*self.rows, strict=True)] or [("",)] * len(self.header)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(f"{name} {part}".strip() for name, own in zip(self.header, parts, strict=True) for part in own)
        for row in self.rows:
            values = (number for value, own in zip(row, parts, strict=True) for number in _values(value, len(own)))
            writer.writerow(for_spreadsheets(values))
        return out.getvalue()

    def _text(self, value: Cell) -> str:
        match value:
            case Gain(mean, low, high):
                return f"{mean:+.{self.digits}f} ({low:+.{self.digits}f} to {high:+.{self.digits}f})"
            case Stat(mean, sd):
                return f"{mean:.{self.digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{self.digits}f}")
        return str(value)


def all_tables(
    labelled: LabelledImages, contestants: Sequence[Contestant], trials: Trials, base: str | None = None
) -> tuple[Table, ...]:
    """Return every table of the study; that of paired differences is empty with one contestant.

    `base` is the contestant that the others are compared with, by default the first.
    """
    reports = (report_table(labelled, contestant, trials[contestant.name]) for contestant in contestants)
    first = trials[contestants[0].name]
    levels = [level for level in range(1, labelled.tree.depth + 1) if head_scores(labelled, first, level)]
    return (
        split_table(labelled, first),
        *(comparison_table(labelled, trials, level) for level in levels),
        paired_table(labelled, contestants, trials, levels, base or contestants[0].name),
        level_table(labelled, trials),
        *reports,
    )


def split_table(labelled: LabelledImages, trials: Sequence[Trial]) -> Table:
    """Return table 6.2 of the thesis: images of each level-1 class, in all and in the parts."""
    available = Counter(path[0] for path in labelled.paths)
    parts = {"Train": [t.train for t in trials], "Validation": [t.validation for t in trials]}
    parts["Test"] = [t.test for t in trials]
    counts = {
        part: [Counter(labelled.paths[position][0] for position in positions) for positions in drawn]
        for part, drawn in parts.items()
    }
    rows: list[list[Cell]] = [
        [name, count, *(Stat.of([seed_counts[name] for seed_counts in counts[part]]) for part in parts)]
        for name, count in sorted(available.items())
    ]
    sizes = (Stat.of([len(positions) for positions in drawn]) for drawn in parts.values())
    rows.append(["All images", len(labelled), *sizes])
    products = (
        Stat.of([len({labelled.groups[position] for position in positions}) for positions in drawn])
        for drawn in parts.values()
    )
    rows.append(["All products", len(set(labelled.groups)), *products])
    return Table("split", "Split of the labels (table 6.2)", ("Class", "Available", *parts), rows, digits=0)


def report_table(labelled: LabelledImages, contestant: Contestant, trials: Sequence[Trial]) -> Table:
    """Return tables 6.3 to 6.5 of the thesis: the classification report of one contestant."""
    scores = head_scores(labelled, trials)
    rows: list[list[Cell]] = [
        [row.name, row.precision, row.recall, row.f1, _count(row.support)] for row in class_stats(scores)
    ]
    macro = _stats(scores, "precision", "recall", "f1")
    rows.append(["Overall", *macro, _count(_sizes(trials))])
    (accuracy,) = _stats(scores, "accuracy")
    deviation = "" if math.isnan(accuracy.sd) else f" ± {accuracy.sd:.2f}"
    header = ("Class", "Precision", "Recall", "F1-Score", "Support")
    note = (
        f"Test accuracy = {accuracy.mean:.2f}{deviation}. Overall is the mean of the classes; Support is a mean, too."
    )
    return Table(f"report-{contestant.slug}", f"Test set, {contestant.name}", header, rows, note)


def comparison_table(labelled: LabelledImages, trials: Trials, level: int = 1) -> Table:
    """Return table 6.6 of the thesis at one level: all contestants; at level 1 with the linear probe beside the head.

    Below level 1 only test images count whose class is in training.
    """
    rows: list[list[Cell]] = []
    for name, runs in trials.items():
        probe = _stats(probe_scores(labelled, runs), "f1", "accuracy") if level == 1 else []
        head = _stats(head_scores(labelled, runs, level), "precision", "recall", "f1", "accuracy")
        rows.append([name, *head, *probe])
    header = ("Method", "Precision", "Recall", "F1-Score", "Accuracy")
    note = f"Level {level}. Precision, recall and F1 are means of the classes."
    if level == 1:
        with_probe = (*header, "Linear probe F1", "Linear probe accuracy")
        return Table("comparison", "Comparison (table 6.6)", with_probe, rows, note)
    runs = next(iter(trials.values()))
    known = _count(Stat.of([len(known_rows(labelled, trial, level)) for trial in runs]))
    note += (
        f" Only test images whose class is in training count: {known} of {_count(_sizes(runs))} (mean of the seeds)."
    )
    return Table(f"comparison-level-{level}", f"Comparison at level {level}", header, rows, note)


def paired_table(
    labelled: LabelledImages, contestants: Sequence[Contestant], trials: Trials, levels: Sequence[int], base: str
) -> Table:
    """Return differences on the same splits at each of the levels: oversampling against none, everything else against
    `base`, and against the contestant before it."""
    plain = [contestant for contestant in contestants if not contestant.oversample]
    pairs = [
        (contestant.name, other.name)
        for other in plain
        for contestant in contestants
        if contestant.differs_in_oversampling(other)
    ]
    names = [contestant.name for contestant in plain]
    pairs += [(name, base) for name in names if name != base]
    pairs += [(name, before) for before, name in pairwise(names) if base not in (before, name)]
    rows: list[list[Cell]] = []
    for level in levels:
        resampled = {name: Resampled.of(labelled, runs, level) for name, runs in trials.items()}
        for name, other_name in pairs:
            difference = resampled[name].less(resampled[other_name])
            wins = f"{difference.wins} of {difference.count}"
            rows.append([level, name, other_name, difference.f1, difference.accuracy, wins])
    header = ("Level", "Method", "Against", "F1 gained", "Accuracy gained", "Seeds with higher F1")
    note = (
        "Differences on the same splits, with 95 % intervals from 1,000 resamples of seeds and of tested products. "
        "Which images count is as in the comparisons."
    )
    return Table("paired", "Paired differences", header, rows, note, digits=3)


def level_table(labelled: LabelledImages, trials: Trials) -> Table:
    """Return one hierarchical head for all levels against one model for each level, on the same embeddings."""
    rows: list[list[Cell]] = []
    for runs in trials.values():
        rows += [
            [
                stat.contestant,
                stat.level,
                _count(stat.support),
                _count(stat.untrained),
                stat.shared_accuracy,
                stat.own_accuracy,
                stat.shared_f1,
                stat.own_f1,
                stat.f1_gain,
            ]
            for stat in level_stats(labelled, runs)
        ]
    header = ("Method", "Level", "Test images", "Class not in training", "Accuracy, one head", "Accuracy, own model",
              "F1, one head", "F1, own model", "F1 gained by one head")  # fmt: skip
    note = (
        "One head: a single hierarchical head for the whole tree. Own model: a model for each level. An image whose "
        "class no training image has counts as wrong."
    )
    return Table("levels", "Deeper levels: one head for the tree, or a model for each level", header, rows, note)


def _count(stat: Stat) -> str:
    """Return a mean number of images as text, with a decimal only where it is not whole."""
    return f"{round(stat.mean, 1):g}"


def _stats(scores: Sequence[Scores], *names: str) -> list[Stat]:
    """Return the statistics over the runs of the scores with these names."""
    return [Stat.of([getattr(run_scores, name) for run_scores in scores]) for name in names]


def _sizes(trials: Sequence[Trial]) -> Stat:
    return Stat.of([len(trial.test) for trial in trials])


def _parts(column: Sequence[Cell]) -> tuple[str, ...]:
    """Return what is added to the header of a column for each number in its cells."""
    if any(isinstance(value, Gain) for value in column):
        return "", "low", "high"
    return ("", "sd") if any(isinstance(value, Stat) for value in column) else ("",)


def _values(value: Cell, width: int) -> list[str]:
    match value:
        case Gain(mean, low, high):
            numbers = [mean, low, high]
        case Stat(mean, sd):
            numbers = [mean, sd]
        case _:
            return [str(value), *[""] * (width - 1)]
    return ["" if math.isnan(number) else f"{number:.4f}" for number in numbers]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
