"""The tables of a study, each as Markdown and as CSV: those of the thesis (6.2 to 6.6), and further comparisons."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.scores import (
    Scores,
    Stat,
    class_stats,
    head_scores,
    level_stats,
    paired_difference,
    probe_scores,
)
from taxonomist.training.study.trial import Trial

Trials = Mapping[str, Sequence[Trial]]
"""The runs of each contestant, by its name, in order of the seeds."""
_ROWS = 60  # of a table in Markdown; the CSV has all


@dataclass(frozen=True)
class Table:
    """`name` is that of its file. A Stat is one cell in Markdown; in CSV mean and standard deviation are two cells."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str | int | Stat]]
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
        wide = [any(isinstance(row[column], Stat) for row in self.rows) for column in range(len(self.header))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([part for name, two in zip(self.header, wide, strict=True) for part in _names(name, two)])
        for row in self.rows:
            values = (part for value, two in zip(row, wide, strict=True) for part in _values(value, two))
            writer.writerow(for_spreadsheets(values))
        return out.getvalue()

    def _text(self, value: str | int | Stat) -> str:
        if not isinstance(value, Stat):
            return str(value)
        if math.isnan(value.sd):
            return f"{value.mean:.{self.digits}f}"
        return f"{value.mean:.{self.digits}f} ± {value.sd:.{self.digits}f}"


def all_tables(labelled: LabelledImages, contestants: Sequence[Contestant], trials: Trials) -> tuple[Table, ...]:
    """Return every table of the study; that of paired differences is empty with one contestant."""
    reports = (report_table(labelled, contestant, trials[contestant.name]) for contestant in contestants)
    return (
        split_table(labelled, trials[contestants[0].name]),
        comparison_table(labelled, trials),
        paired_table(labelled, contestants, trials),
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
    rows: list[list[str | int | Stat]] = [
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
    rows: list[list[str | int | Stat]] = [
        [row.name, row.precision, row.recall, row.f1, _count(row.support)] for row in class_stats(scores)
    ]
    macro = _stats(scores, "precision", "recall", "f1")
    rows.append(["Overall", *macro, _count(Stat.of([len(trial.test) for trial in trials]))])
    (accuracy,) = _stats(scores, "accuracy")
    deviation = "" if math.isnan(accuracy.sd) else f" ± {accuracy.sd:.2f}"
    header = ("Class", "Precision", "Recall", "F1-Score", "Support")
    note = (
        f"Test accuracy = {accuracy.mean:.2f}{deviation}. Overall is the mean of the classes; Support is a mean, too."
    )
    return Table(f"report-{contestant.slug}", f"Test set, {contestant.name}", header, rows, note)


def comparison_table(labelled: LabelledImages, trials: Trials) -> Table:
    """Return table 6.6 of the thesis: all contestants, with the linear probe beside the head."""
    rows: list[list[str | int | Stat]] = []
    for name, runs in trials.items():
        head, probe = head_scores(labelled, runs), probe_scores(labelled, runs)
        rows.append([name, *_stats(head, "precision", "recall", "f1", "accuracy"), *_stats(probe, "f1", "accuracy")])
    header = ("Method", "Precision", "Recall", "F1-Score", "Accuracy", "Linear probe F1", "Linear probe accuracy")
    note = "Level 1. Precision, recall and F1 are means of the classes."
    return Table("comparison", "Comparison (table 6.6)", header, rows, note)


def paired_table(labelled: LabelledImages, contestants: Sequence[Contestant], trials: Trials) -> Table:
    """Return oversampling against none, and everything against the first contestant, on the same splits."""
    plain = [contestant for contestant in contestants if not contestant.oversample]
    pairs = [
        (contestant.name, base.name)
        for base in plain
        for contestant in contestants
        if contestant.differs_in_oversampling(base)
    ]
    first = contestants[0].name
    pairs += [(contestant.name, first) for contestant in contestants[1:] if (contestant.name, first) not in pairs]
    rows: list[list[str | int | Stat]] = []
    for name, base_name in pairs:
        difference = paired_difference(labelled, trials[name], trials[base_name])
        wins = f"{difference.wins} of {difference.f1.count}"
        rows.append([name, base_name, difference.f1, difference.accuracy, wins])
    header = ("Method", "Against", "F1 gained", "Accuracy gained", "Seeds with higher F1")
    note = "Differences on the same split, seed by seed; ± is the standard deviation of the differences."
    return Table("paired", "Paired differences", header, rows, note, digits=3)


def level_table(labelled: LabelledImages, trials: Trials) -> Table:
    """Return one hierarchical head for all levels against one model for each level, on the same embeddings."""
    rows: list[list[str | int | Stat]] = []
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


def _names(name: str, two: bool) -> list[str]:
    return [name, f"{name} sd"] if two else [name]


def _values(value: str | int | Stat, two: bool) -> list[str]:
    if isinstance(value, Stat):
        return [f"{value.mean:.4f}", "" if math.isnan(value.sd) else f"{value.sd:.4f}"]
    return [str(value), ""] if two else [str(value)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
