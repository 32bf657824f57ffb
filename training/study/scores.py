"""The scores of a study, computed from the predictions of its runs: mean and standard deviation over the seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxonomist.training.heads.evaluation import ClassReport, LevelReport, evaluate_predictions
from taxonomist.training.study.labelled_images import LabelledImages
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
        """Return mean and standard deviation of at least one value."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Scores:
    """The scores of one model on one test part, at one level; all 0 to 1.

    `precision`, `recall` and `f1` are macro averages over the classes that are true or predicted there; a prediction
    that does not reach the level counts as wrong, but is not a class.
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
        """Share of the test images whose prediction is right."""
        return float(np.trace(self.report.matrix) / self.report.matrix.sum())


def scores_of(labelled: LabelledImages, trial: Trial, model: str, level: int = 1) -> Scores | None:
    """Return the scores of one of the trial's models, None when no test image's label reaches the level.

    At a level that a model was not trained for, all its predictions are wrong.
    """
    tree = labelled.tree
    truths = [{tree.control: (labelled.paths[position],)} for position in trial.test]
    nodes = trial.predictions.get(model)
    predictions = [tree.paths[node] for node in nodes] if nodes else [None] * len(truths)
    evaluation = evaluate_predictions(tree, truths, predictions)
    assert evaluation is not None  # each test image has a label
    return next((Scores(report) for report in evaluation.levels if report.level == level), None)


def head_scores(labelled: LabelledImages, trials: Sequence[Trial]) -> list[Scores]:
    """Return the scores of the head at level 1, for each run."""
    return _present([scores_of(labelled, trial, of_level(1)) for trial in trials])


def probe_scores(labelled: LabelledImages, trials: Sequence[Trial]) -> list[Scores]:
    """Return the scores of the linear probe at level 1, for each run."""
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
    """Return the classification report (thesis, tables 6.3 to 6.5) in order of names."""
    rows: dict[str, list[ClassReport]] = {}
    for run_scores in scores:
        for row in run_scores.report.classes:
            rows.setdefault(row.name, []).append(row)
    return [
        ClassStat(
            name,
            Stat.of([row.precision for row in class_rows]),
            Stat.of([row.recall for row in class_rows]),
            Stat.of([row.f1 for row in class_rows]),
            Stat.of([row.support for row in class_rows]),
        )
        for name, class_rows in sorted(rows.items())
    ]


def summed(scores: Sequence[Scores]) -> LevelReport:
    """Return one report with the sum of the confusion matrices of all seeds; its rows are computed from the sum."""
    names = sorted({row.name for run_scores in scores for row in run_scores.report.classes})
    index = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), np.int64)
    for run_scores in scores:
        positions = [index[row.name] for row in run_scores.report.classes]
        matrix[np.ix_(positions, positions)] += run_scores.report.matrix
    return LevelReport(scores[0].report.level, tuple(_row(name, matrix, index[name]) for name in names), matrix)


def _row(name: str, matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]], index: int) -> ClassReport:
    hits, predicted, true = int(matrix[index, index]), int(matrix[:, index].sum()), int(matrix[index].sum())
    return ClassReport(
        name, hits / max(predicted, 1), hits / max(true, 1), 2 * hits / max(predicted + true, 1), support=true
    )


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the scores of `name` are than those of `base` on the same splits.

    `wins` counts the splits with a higher macro-F1.
    """

    name: str
    base: str
    f1: Stat
    accuracy: Stat
    wins: int


def paired_difference(labelled: LabelledImages, trials: Sequence[Trial], base: Sequence[Trial]) -> PairedDifference:
    """Return the differences at level 1, seed by seed, in the head's macro-F1 and accuracy."""
    pairs = list(zip(head_scores(labelled, trials), head_scores(labelled, base), strict=True))
    f1 = [scores.f1 - base_scores.f1 for scores, base_scores in pairs]
    accuracy = [scores.accuracy - base_scores.accuracy for scores, base_scores in pairs]
    wins = sum(difference > 0 for difference in f1)
    return PairedDifference(trials[0].contestant, base[0].contestant, Stat.of(f1), Stat.of(accuracy), wins)


@dataclass(frozen=True)
class LevelStat:
    """One level of one contestant: by one hierarchical head for all levels (`shared`), and by a model for each (`own`).

    `support` counts test images, `untrained` those whose class no training image has.
    """

    contestant: str
    level: int
    support: Stat
    untrained: Stat
    shared_accuracy: Stat
    own_accuracy: Stat
    shared_f1: Stat
    own_f1: Stat
    f1_gain: Stat  # shared minus own, seed by seed


def level_stats(labelled: LabelledImages, trials: Sequence[Trial]) -> list[LevelStat]:
    """Return every level that some test image reaches, for the trials of one contestant."""
    stats = []
    for level in range(1, labelled.tree.depth + 1):
        reached = []
        for trial in trials:
            shared = scores_of(labelled, trial, SHARED, level)
            own = scores_of(labelled, trial, of_level(level), level)
            if shared is not None and own is not None:
                reached.append((trial, shared, own))
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


def _untrained(labelled: LabelledImages, trial: Trial, level: int) -> int:
    known = {labelled.paths[position][:level] for position in trial.train}
    truths = [labelled.paths[position] for position in trial.test]
    return sum(len(path) >= level and path[:level] not in known for path in truths)


def _present(scores: Sequence[Scores | None]) -> list[Scores]:
    return [run_scores for run_scores in scores if run_scores is not None]
