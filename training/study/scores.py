"""The scores of a study, computed from the predictions of its runs, and how far chance may have moved them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.training.heads.evaluation import ClassReport, LevelReport, evaluate_predictions
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.trial import PROBE, SHARED, Trial, of_level

_NOTHING = "(none)"  # what a report calls a prediction that does not reach the level
_RESAMPLES = 1000


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


def scores_of(
    labelled: LabelledImages, trial: Trial, model: str, level: int = 1, *, known: bool = False
) -> Scores | None:
    """Return the scores of one of the trial's models, None when no test image's label reaches the level.

    At a level that a model was not trained for, all its predictions are wrong. With `known`, only test images whose
    class some training image has count.
    """
    tree = labelled.tree
    rows = known_rows(labelled, trial, level) if known else range(len(trial.test))
    truths = [{tree.control: (labelled.paths[trial.test[row]],)} for row in rows]
    nodes = trial.predictions.get(model)
    predictions = [tree.paths[nodes[row]] if nodes else None for row in rows]
    evaluation = evaluate_predictions(tree, truths, predictions)
    return next((Scores(report) for report in evaluation.levels if report.level == level), None) if evaluation else None


def known_rows(labelled: LabelledImages, trial: Trial, level: int) -> list[int]:
    """Return which of the trial's test images have a class at the level that some training image has."""
    trained = {labelled.paths[position][:level] for position in trial.train}
    paths = [labelled.paths[position] for position in trial.test]
    return [row for row, path in enumerate(paths) if len(path) >= level and path[:level] in trained]


def head_scores(labelled: LabelledImages, trials: Sequence[Trial], level: int = 1) -> list[Scores]:
    """Return the scores of the head of that level, for each run; below level 1 only of images whose class it knows.

    A run in which there are none is left out.
    """
    found = [scores_of(labelled, trial, of_level(level), level, known=level > 1) for trial in trials]
    return [scores for scores in found if scores is not None]


def probe_scores(labelled: LabelledImages, trials: Sequence[Trial]) -> list[Scores]:
    """Return the scores of the linear probe at level 1, for each run."""
    return [scores for trial in trials if (scores := scores_of(labelled, trial, PROBE)) is not None]


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
class Gain:
    """A difference of two mean scores, and its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: float, resampled: npt.NDArray[np.float64]) -> "Gain":
        """Return the difference with the interval that 95 % of the resampled ones are in."""
        low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
        return cls(mean, low, high)


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the scores of one contestant are than those of another on the same splits.

    `wins` counts the splits with a higher macro-F1, of `count`.
    """

    f1: Gain
    accuracy: Gain
    wins: int
    count: int


@dataclass(frozen=True)
class Resampled:
    """Macro-F1 and accuracy of the head at one level: of each run (2, runs), and their means over the runs in
    resamples of runs and of tested products (2, resamples).

    Runs and products are drawn with replacement at the same time (Owen 2007, The pigeonhole bootstrap,
    https://doi.org/10.1214/07-AOAS122), so that the draw of the labels counts as well as that of the products. The
    draws are the same for all contestants of a study. There are no runs where no test image counts.
    """

    scores: npt.NDArray[np.float64]
    resampled: npt.NDArray[np.float64]

    @classmethod
    def of(cls, labelled: LabelledImages, trials: Sequence[Trial], level: int) -> "Resampled":
        """Return the scores of a contestant's runs; which images count is as in `head_scores`."""
        runs = [run for trial in trials if len((run := _TestedRun.of(labelled, trial, level)).truth)]
        products = sorted({product for run in runs for product in run.products})
        rows = [np.searchsorted(products, run.products) for run in runs]
        random = np.random.default_rng(0)
        resampled = np.zeros((2, _RESAMPLES if runs else 0))
        for number in range(resampled.shape[1]):
            weights = np.bincount(random.integers(0, len(products), len(products)), minlength=len(products))
            drawn = random.integers(0, len(runs), len(runs)).tolist()
            resampled[:, number] = np.mean([runs[at].scores(weights[rows[at]]) for at in drawn], axis=0)
        scores = [run.scores(np.ones(len(run.truth), np.int64)) for run in runs]
        return cls(np.array(scores).reshape(-1, 2).T, resampled)

    def less(self, base: "Resampled") -> PairedDifference:
        """Return the differences from another contestant of the study, at the same level."""
        gains = self.scores - base.scores
        f1, accuracy = map(Gain.of, gains.mean(axis=1).tolist(), self.resampled - base.resampled)
        return PairedDifference(f1, accuracy, int((gains[0] > 0).sum()), gains.shape[1])


@dataclass(frozen=True)
class _TestedRun:
    """True and predicted class (n,), 0 to `classes` - 1, of the test images that count at a level; their products."""

    truth: npt.NDArray[np.int64]
    guess: npt.NDArray[np.int64]
    classes: int
    products: Sequence[str]

    @classmethod
    def of(cls, labelled: LabelledImages, trial: Trial, level: int) -> "_TestedRun":
        rows = known_rows(labelled, trial, level) if level > 1 else range(len(trial.test))
        tree, nodes = labelled.tree, trial.predictions.get(of_level(level), ())
        truth = [tree.index[labelled.paths[trial.test[row]][:level]] for row in rows]
        names, numbers = np.unique([*truth, *(nodes[row] for row in rows)], return_inverse=True)
        products = [labelled.groups[trial.test[row]] for row in rows]
        return cls(numbers[: len(truth)], numbers[len(truth) :], len(names), products)

    def scores(self, weights: npt.NDArray[np.int64]) -> tuple[float, float]:
        """Return macro-F1 and accuracy where image i counts `weights[i]` times; 0 where none counts."""
        true, guessed, hits = (
            np.bincount(classes, counts, self.classes)
            for classes, counts in (
                (self.truth, weights),
                (self.guess, weights),
                (self.truth, weights * (self.truth == self.guess)),
            )
        )
        some = true + guessed > 0
        if not some.any():
            return 0.0, 0.0
        return float((2 * hits[some] / (true + guessed)[some]).mean()), float(hits.sum() / true.sum())


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
