"""From the predictions of the study's runs to its numbers: mean and spread over the seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.training.heads.evaluation import ClassReport, LevelReport, evaluate_predictions
from taxonomist.training.study.data import Labelled
from taxonomist.training.study.trial import PROBE, SHARED, Trial, of_level

_NOTHING = "(none)"  # what a report calls a prediction that does not reach the level


@dataclass(frozen=True)
class Stat:
    """Mean and sample standard deviation (NaN for a single value) of `count` values, one for each seed."""

    mean: float
    sd: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Stat":
        """Of at least one value."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Scores:
    """What one model does on one test part, at one level; all 0 to 1.

    `precision`, `recall` and `f1` are macro averages over the classes that are true or predicted there; to predict
    nothing is no class.
    """

    report: LevelReport

    @property
    def classes(self) -> list[ClassReport]:
        """The rows of the classification report."""
        return [row for row in self.report.classes if row.name != _NOTHING]

    @property
    def precision(self) -> float:
        """Macro precision."""
        return statistics.fmean(row.precision for row in self.classes)

    @property
    def recall(self) -> float:
        """Macro recall."""
        return statistics.fmean(row.recall for row in self.classes)

    @property
    def f1(self) -> float:
        """Macro-F1."""
        return statistics.fmean(row.f1 for row in self.classes)

    @property
    def accuracy(self) -> float:
        """Share of the test pictures that are right."""
        return float(np.trace(self.report.matrix) / self.report.matrix.sum())


def scores_of(labelled: Labelled, trial: Trial, model: str, level: int = 1) -> Scores | None:
    """The scores of one of the trial's models, None when no test picture's label reaches the level.

    A level that a model was not trained for, it gets wrong.
    """
    tree = labelled.tree
    truths = [{tree.control: (labelled.paths[position],)} for position in trial.test]
    nodes = trial.predictions.get(model)
    predictions = [tree.paths[node] for node in nodes] if nodes else [None] * len(truths)
    evaluation = evaluate_predictions(tree, truths, predictions)
    assert evaluation is not None  # each test picture has a label
    return next((Scores(report) for report in evaluation.levels if report.level == level), None)


def head_scores(labelled: Labelled, trials: Sequence[Trial]) -> list[Scores]:
    """The scores of the head at level 1, for each run."""
    return _present([scores_of(labelled, trial, of_level(1)) for trial in trials])


def probe_scores(labelled: Labelled, trials: Sequence[Trial]) -> list[Scores]:
    """Those of the linear probe."""
    return _present([scores_of(labelled, trial, PROBE) for trial in trials])


@dataclass(frozen=True)
class ClassStat:
    """One row of a classification report over the seeds in which the class is true or predicted."""

    name: str
    precision: Stat
    recall: Stat
    f1: Stat
    support: Stat


def class_stats(scores: Sequence[Scores]) -> list[ClassStat]:
    """The classification report (thesis, tables 6.3 to 6.5) in order of names."""
    rows: dict[str, list[ClassReport]] = {}
    for each in scores:
        for row in each.report.classes:
            rows.setdefault(row.name, []).append(row)
    return [
        ClassStat(
            name,
            Stat.of([row.precision for row in found]),
            Stat.of([row.recall for row in found]),
            Stat.of([row.f1 for row in found]),
            Stat.of([row.support for row in found]),
        )
        for name, found in sorted(rows.items())
    ]


def summed(scores: Sequence[Scores]) -> LevelReport:
    """One report with the confusion matrices of all seeds added up; its rows are computed from the sums."""
    names = sorted({row.name for each in scores for row in each.report.classes})
    place = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), np.int64)
    for each in scores:
        where = [place[row.name] for row in each.report.classes]
        matrix[np.ix_(where, where)] += each.report.matrix
    return LevelReport(scores[0].report.level, tuple(_row(name, matrix, place[name]) for name in names), matrix)


def _row(name: str, matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]], at: int) -> ClassReport:
    hits, predicted, true = int(matrix[at, at]), int(matrix[:, at].sum()), int(matrix[at].sum())
    return ClassReport(
        name, hits / max(predicted, 1), hits / max(true, 1), 2 * hits / max(predicted + true, 1), support=true
    )


@dataclass(frozen=True)
class Paired:
    """How much higher a score of `name` is than that of `base` on the same splits, and on how many of them it is."""

    name: str
    base: str
    f1: Stat
    accuracy: Stat
    wins: int


def paired(labelled: Labelled, one: Sequence[Trial], base: Sequence[Trial]) -> Paired:
    """Differences at level 1, seed by seed: the head's macro-F1 and accuracy. `wins` counts those of macro-F1."""
    here, there = head_scores(labelled, one), head_scores(labelled, base)
    f1 = [a.f1 - b.f1 for a, b in zip(here, there, strict=True)]
    accuracy = [a.accuracy - b.accuracy for a, b in zip(here, there, strict=True)]
    return Paired(one[0].contestant, base[0].contestant, Stat.of(f1), Stat.of(accuracy), sum(d > 0 for d in f1))


@dataclass(frozen=True)
class LevelStat:
    """One level of one contestant: one backbone with one hierarchical head for all levels (`shared`), and with a model
    for each level (`own`). `support` counts test pictures, `untrained` those whose class no training picture has."""

    contestant: str
    level: int
    support: Stat
    untrained: Stat
    shared_accuracy: Stat
    own_accuracy: Stat
    shared_f1: Stat
    own_f1: Stat
    f1_gain: Stat  # shared minus own, seed by seed


def level_stats(labelled: Labelled, trials: Sequence[Trial]) -> list[LevelStat]:
    """Every level that some test picture reaches, for the trials of one contestant."""
    stats = []
    for level in range(1, labelled.tree.depth + 1):
        pairs = [
            (scores_of(labelled, t, SHARED, level), scores_of(labelled, t, of_level(level), level)) for t in trials
        ]
        reached = [(t, s, o) for t, (s, o) in zip(trials, pairs, strict=True) if s is not None and o is not None]
        if not reached:
            continue
        stats.append(
            LevelStat(
                trials[0].contestant,
                level,
                Stat.of([int(shared.report.matrix.sum()) for _, shared, _ in reached]),
                Stat.of([_untrained(labelled, trial, level) for trial, _, _ in reached]),
                Stat.of([shared.accuracy for _, shared, _ in reached]),
                Stat.of([own.accuracy for _, _, own in reached]),
                Stat.of([shared.f1 for _, shared, _ in reached]),
                Stat.of([own.f1 for _, _, own in reached]),
                Stat.of([shared.f1 - own.f1 for _, shared, own in reached]),
            )
        )
    return stats


def _untrained(labelled: Labelled, trial: Trial, level: int) -> int:
    known = {labelled.paths[position][:level] for position in trial.train}
    truths = [labelled.paths[position] for position in trial.test]
    return sum(len(path) >= level and path[:level] not in known for path in truths)


def _present(scores: Sequence[Scores | None]) -> list[Scores]:
    return [each for each in scores if each is not None]
