"""The quality of predicted paths: accuracy and macro-F1 per level, hierarchical precision and recall."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class LevelMetrics:
    """Quality at one level, over the `support` images whose label reaches it; accuracy and macro-F1 are 0 to 1."""

    level: int
    support: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class TreeMetrics:
    """Quality of predicted paths; all scores are 0 to 1.

    `levels` has the levels that at least one label reaches. `hierarchical_*` count nodes along the paths. `mean_depth`
    is the mean level of the predictions; no prediction counts as 0. `macro_f1` is the mean of the levels' macro-F1,
    weighted by their support: a level that few images reach is measured badly and counts little. When all labels have
    the same depth it is the plain mean.
    """

    levels: tuple[LevelMetrics, ...]
    hierarchical_precision: float
    hierarchical_recall: float
    hierarchical_f1: float
    mean_depth: float
    macro_f1: float

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON-ready values."""
        return asdict(self)


def evaluate_paths(
    tree: Tree, truths: Sequence[Sequence[TaxonomyPath]], predictions: Sequence[TaxonomyPath | None]
) -> TreeMetrics:
    """Return the metrics of one predicted path (or None) per image against its accepted labels.

    At a level, an image has the nodes of its labels at that level, and the predicted node if the prediction is that
    deep. Accuracy: the predicted node is one of the true nodes. Macro-F1: each node that is true or predicted anywhere
    is a class, and all classes have the same weight (multi-label, as scikit-learn computes it from indicators; no
    prediction is no class).

    Hierarchical precision, recall and F1: with T and P the sets of nodes on the true and the predicted paths of an
    image, hP = sum |P ∩ T| / sum |P| and hR = sum |P ∩ T| / sum |T|. Source: Silla and Freitas, A survey of
    hierarchical classification across different application domains (2011), section 6,
    https://doi.org/10.1007/s10618-010-0175-9, after Kiritchenko et al. (2005).

    Images without a label are left out. A predicted path that is not in the tree is wrong below its known prefix.
    Raises ValueError when the two sequences differ in length, TrainingError when no image has a label or a label is not
    in the tree.
    """
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} truths but {len(predictions)} predictions")
    judged = [(paths, prediction or ()) for paths, prediction in zip(truths, predictions, strict=True) if paths]
    if not judged:
        raise TrainingError("There is nothing to evaluate on: no image has an accepted label.")
    for paths, _ in judged:
        for path in paths:
            if path not in tree:
                raise TrainingError(f'The label "{format_path(path)}" is not in the taxonomy "{tree.control}".')
    true_nodes = [{node for path in paths for node in prefixes(path)} for paths, _ in judged]
    predicted_nodes = [set(prefixes(prediction)) for _, prediction in judged]
    levels = _per_level(tree.depth, [paths for paths, _ in judged], [prediction for _, prediction in judged])
    shared = sum(len(true & predicted) for true, predicted in zip(true_nodes, predicted_nodes, strict=True))
    given, wanted = sum(map(len, predicted_nodes)), sum(map(len, true_nodes))
    return TreeMetrics(
        levels=levels,
        hierarchical_precision=_ratio(shared, given),
        hierarchical_recall=_ratio(shared, wanted),
        hierarchical_f1=_ratio(2 * shared, given + wanted),
        mean_depth=given / len(judged),
        macro_f1=sum(level.macro_f1 * level.support for level in levels) / sum(level.support for level in levels),
    )


@dataclass(frozen=True)
class NodeScores:
    """How well one node is predicted; scores are 0 to 1."""

    precision: float
    recall: float
    f1: float


@dataclass
class LevelCounts:
    """For each node of a level, in how many images it is predicted rightly, missed, or predicted wrongly.

    `support` counts the images whose label reaches the level. The nodes that are true or predicted anywhere are the
    classes of macro-F1.
    """

    hits: Counter[TaxonomyPath] = field(default_factory=Counter)
    missed: Counter[TaxonomyPath] = field(default_factory=Counter)
    wrong: Counter[TaxonomyPath] = field(default_factory=Counter)
    support: int = 0

    def scores(self) -> dict[TaxonomyPath, NodeScores]:
        """Return the scores of each class, in order of the paths."""
        return {node: self._scores(node) for node in sorted(self.hits.keys() | self.missed.keys() | self.wrong.keys())}

    def _scores(self, node: TaxonomyPath) -> NodeScores:
        hits, true = self.hits[node], self.hits[node] + self.missed[node]
        given = self.hits[node] + self.wrong[node]
        return NodeScores(_ratio(hits, given), _ratio(hits, true), _ratio(2 * hits, true + given))


def count_level(
    level: int, truths: Sequence[Sequence[TaxonomyPath]], predictions: Sequence[TaxonomyPath | None]
) -> LevelCounts:
    """Return what was predicted rightly and wrongly at a level, over the images whose label reaches it."""
    hits: list[TaxonomyPath] = []
    missed: list[TaxonomyPath] = []
    wrong: list[TaxonomyPath] = []
    support = 0
    for paths, prediction in zip(truths, predictions, strict=True):
        true = {path[:level] for path in paths if len(path) >= level}
        if not true:
            continue
        support += 1
        if prediction and len(prediction) >= level:
            predicted = prediction[:level]
            (hits if predicted in true else wrong).append(predicted)
            true.discard(predicted)
        missed += true
    return LevelCounts(Counter(hits), Counter(missed), Counter(wrong), support)


def _per_level(
    depth: int, truths: Sequence[Sequence[TaxonomyPath]], predictions: Sequence[TaxonomyPath | None]
) -> tuple[LevelMetrics, ...]:
    metrics = []
    for level in range(1, depth + 1):
        counts = count_level(level, truths, predictions)
        if counts.support:
            f1 = [scores.f1 for scores in counts.scores().values()]
            metrics.append(LevelMetrics(level, counts.support, counts.hits.total() / counts.support, sum(f1) / len(f1)))
    return tuple(metrics)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
