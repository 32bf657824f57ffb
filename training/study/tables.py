"""The study's tables, each as Markdown and as CSV: those of the thesis (6.2 to 6.6), and the comparisons after it."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taxonomist.training.study.data import Contestant, Labelled
from taxonomist.training.study.scores import Stat, class_stats, head_scores, level_stats, paired, probe_scores
from taxonomist.training.study.trial import Trial

Trials = Mapping[str, Sequence[Trial]]
"""The runs of each contestant, by its name, in order of the seeds."""
_ROWS = 60  # of a table in Markdown; the CSV has all


@dataclass(frozen=True)
class Table:
    """`name` is that of its file. A Stat is one cell in Markdown, and mean and standard deviation in two of the CSV."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str | int | Stat]]
    note: str = ""
    digits: int = 2

    def markdown(self) -> str:
        """The table with its title."""
        rows = [[_cell(self._text(value)) for value in row] for row in self.rows[:_ROWS]]
        lines = [self.header, ["---"] * len(self.header), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        more = f"{len(self.rows) - _ROWS} rows more are in {self.name}.csv." if len(self.rows) > _ROWS else ""
        return "\n\n".join(filter(None, [f"### {self.title}", table, more, self.note])) + "\n"

    def csv(self) -> str:
        """Comma-separated, four decimals."""
        wide = [any(isinstance(row[column], Stat) for row in self.rows) for column in range(len(self.header))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([part for name, two in zip(self.header, wide, strict=True) for part in _names(name, two)])
        for row in self.rows:
            writer.writerow([part for value, two in zip(row, wide, strict=True) for part in _values(value, two)])
        return out.getvalue()

    def _text(self, value: str | int | Stat) -> str:
        if not isinstance(value, Stat):
            return str(value)
        if math.isnan(value.sd):
            return f"{value.mean:.{self.digits}f}"
        return f"{value.mean:.{self.digits}f} ± {value.sd:.{self.digits}f}"


def all_tables(labelled: Labelled, contestants: Sequence[Contestant], trials: Trials) -> tuple[Table, ...]:
    """Every table of the study; paired differences need a second contestant."""
    reports = (report_table(labelled, contestant, trials[contestant.name]) for contestant in contestants)
    return (
        split_table(labelled, trials[contestants[0].name]),
        comparison_table(labelled, trials),
        paired_table(labelled, contestants, trials),
        level_table(labelled, trials),
        *reports,
    )


def split_table(labelled: Labelled, trials: Sequence[Trial]) -> Table:
    """Table 6.2: pictures of each level-1 class, in all and in the parts."""
    available = Counter(path[0] for path in labelled.paths)
    parts = {"Train": [t.train for t in trials], "Validation": [t.validation for t in trials]}
    parts["Test"] = [t.test for t in trials]
    counts = {
        part: [Counter(labelled.paths[position][0] for position in positions) for positions in drawn]
        for part, drawn in parts.items()
    }
    rows: list[list[str | int | Stat]] = [
        [name, count, *(Stat.of([each[name] for each in counts[part]]) for part in parts)]
        for name, count in sorted(available.items())
    ]
    rows.append(["All pictures", len(labelled), *(Stat.of([len(each) for each in drawn]) for drawn in parts.values())])
    products = (
        Stat.of([len({labelled.groups[position] for position in positions}) for positions in drawn])
        for drawn in parts.values()
    )
    rows.append(["All products", len(set(labelled.groups)), *products])
    return Table("split", "Split of the labels (table 6.2)", ("Class", "Available", *parts), rows, digits=0)


def report_table(labelled: Labelled, contestant: Contestant, trials: Sequence[Trial]) -> Table:
    """Tables 6.3 to 6.5: the classification report of one contestant."""
    scores = head_scores(labelled, trials)
    rows: list[list[str | int | Stat]] = [
        [row.name, row.precision, row.recall, row.f1, _count(row.support)] for row in class_stats(scores)
    ]
    macro = (Stat.of([getattr(each, name) for each in scores]) for name in ("precision", "recall", "f1"))
    rows.append(["Overall", *macro, _count(Stat.of([len(trial.test) for trial in trials]))])
    accuracy = Stat.of([each.accuracy for each in scores])
    spread = "" if math.isnan(accuracy.sd) else f" ± {accuracy.sd:.2f}"
    header = ("Class", "Precision", "Recall", "F1-Score", "Support")
    note = f"Test accuracy = {accuracy.mean:.2f}{spread}. Overall is the mean of the classes; Support is a mean, too."
    return Table(f"report-{contestant.slug}", f"Test set, {contestant.name}", header, rows, note)


def comparison_table(labelled: Labelled, trials: Trials) -> Table:
    """Table 6.6: all contestants; with the linear probe beside the head."""
    rows: list[list[str | int | Stat]] = []
    for name, runs in trials.items():
        head, probe = head_scores(labelled, runs), probe_scores(labelled, runs)
        macro = (Stat.of([getattr(each, kind) for each in head]) for kind in ("precision", "recall", "f1", "accuracy"))
        linear = (Stat.of([getattr(each, kind) for each in probe]) for kind in ("f1", "accuracy"))
        rows.append([name, *macro, *linear])
    header = ("Method", "Precision", "Recall", "F1-Score", "Accuracy", "Linear probe F1", "Linear probe accuracy")
    note = "Level 1. Precision, recall and F1 are means of the classes."
    return Table("comparison", "Comparison (table 6.6)", header, rows, note)


def paired_table(labelled: Labelled, contestants: Sequence[Contestant], trials: Trials) -> Table:
    """Oversampling against none, and everything against the first contestant, on the same splits."""
    plain = [contestant for contestant in contestants if not contestant.oversample]
    pairs = [(one.name, other.name) for other in plain for one in contestants if one.rivals(other)]
    first = contestants[0].name
    pairs += [(one.name, first) for one in contestants[1:] if (one.name, first) not in pairs]
    rows: list[list[str | int | Stat]] = []
    for one, base in pairs:
        found = paired(labelled, trials[one], trials[base])
        rows.append([one, base, found.f1, found.accuracy, f"{found.wins} of {found.f1.count}"])
    header = ("Method", "Against", "F1 gained", "Accuracy gained", "Seeds with higher F1")
    note = "Differences on the same split, seed by seed; ± is the standard deviation of the differences."
    return Table("paired", "Paired differences", header, rows, note, digits=3)


def level_table(labelled: Labelled, trials: Trials) -> Table:
    """One shared backbone with one hierarchical head against one model for each level."""
    rows: list[list[str | int | Stat]] = []
    for runs in trials.values():
        rows += [
            [
                each.contestant,
                each.level,
                _count(each.support),
                _count(each.untrained),
                each.shared_accuracy,
                each.own_accuracy,
                each.shared_f1,
                each.own_f1,
                each.f1_gain,
            ]
            for each in level_stats(labelled, runs)
        ]
    header = ("Method", "Level", "Test pictures", "Class not in training", "Accuracy, one head", "Accuracy, own model",
              "F1, one head", "F1, own model", "F1 gained by one head")  # fmt: skip
    note = (
        "One head: a single hierarchical head for the whole tree. Own model: a model for each level. A picture whose "
        "class no training picture has can only be wrong, and counts."
    )
    return Table("levels", "Deeper levels: one head for the tree, or a model for each level", header, rows, note)


def _count(stat: Stat) -> str:
    """A mean number of pictures, with a decimal only where it is not whole."""
    return f"{round(stat.mean, 1):g}"


def _names(name: str, two: bool) -> list[str]:
    return [name, f"{name} sd"] if two else [name]


def _values(value: str | int | Stat, two: bool) -> list[str]:
    if isinstance(value, Stat):
        return [f"{value.mean:.4f}", "" if math.isnan(value.sd) else f"{value.sd:.4f}"]
    return [str(value), ""] if two else [str(value)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
