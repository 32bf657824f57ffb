"""One run of the study: one contestant on the split of one seed. What it predicts is kept, scores come later."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.evaluation import predict_paths
from taxonomist.training.heads.head import Epoch, HeadData, HeadOptions, Imbalance, TrainedHead, train_head
from taxonomist.training.heads.targets import Outputs
from taxonomist.training.study.data import Contestant, Labelled, StudyOptions
from taxonomist.training.study.fine_tune import TuneOptions, fine_tune
from taxonomist.training.study.split import Split
from taxonomist.training.study.vectors import Vectors

SHARED = "shared"
"""Predictions of one head for the whole tree."""
PROBE = "probe"
"""Predictions of a linear probe at level 1."""
Nodes = tuple[int, ...]
"""For each test picture the node of the study's tree that a model predicts."""

_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of the linear probe; the validation part chooses


def of_level(level: int) -> str:
    """Predictions of a model that knows one level only."""
    return f"level {level}"


@dataclass(frozen=True)
class Trial:
    """What came of one run: `train`, `validation` and `test` are positions among the labelled pictures, `predictions`
    those of each model for the test pictures, `curves` those of the head at level 1 with the epoch that was kept."""

    contestant: str
    seed: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    predictions: Mapping[str, Nodes]
    curves: tuple[Epoch, ...]
    best: int
    embedding_s: float
    training_s: float

    def to_json(self) -> bytes:
        """As `from_json` reads it."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Trial":
        """Raises ValueError, KeyError or TypeError when `data` is something else."""
        fields: dict[str, Any] = json.loads(data)
        fields |= {part: tuple(fields[part]) for part in ("train", "validation", "test")}
        fields["predictions"] = {name: tuple(nodes) for name, nodes in fields["predictions"].items()}
        fields["curves"] = tuple(Epoch(**epoch) for epoch in fields["curves"])
        return cls(**fields)


@dataclass(frozen=True)
class _Embedded:
    """The embeddings of a split's three parts."""

    train: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]
    validation: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]


def run_trial(
    labelled: Labelled, contestant: Contestant, split: Split, options: StudyOptions, seed: int, frozen: Vectors
) -> Trial:
    """Embed, train the heads and the probe on the training part, predict the test part.

    `frozen` are the embeddings of the contestant as it comes. Raises TrainingError, ConfigError as the parts do.
    """
    started = time.monotonic()
    vectors = _tuned(labelled, contestant, split, options, seed) if contestant.fine_tune else frozen
    embedded = _Embedded(*vectors.with_views(split.train), vectors.plain(split.validation), vectors.plain(split.test))
    halfway = time.monotonic()
    imbalance: Imbalance = "oversample" if contestant.oversample else "none"
    classify = _Classify(labelled, split, embedded, replace(options.head, imbalance=imbalance, seed=seed))
    levels = {level: classify.level(level) for level in range(1, _depth(labelled, split) + 1)}
    predictions = {of_level(level): nodes for level, (nodes, _) in levels.items()}
    return Trial(
        contestant.name,
        seed,
        tuple(split.train.tolist()),
        tuple(split.validation.tolist()),
        tuple(split.test.tolist()),
        {SHARED: classify.tree(), PROBE: classify.probe(), **predictions},
        levels[1][1].curves,
        levels[1][1].best,
        round(halfway - started, 2),
        round(time.monotonic() - halfway, 2),
    )


def _depth(labelled: Labelled, split: Split) -> int:
    """The deepest level that there are training pictures for."""
    return max(len(labelled.paths[position]) for position in split.train)


def _tuned(labelled: Labelled, contestant: Contestant, split: Split, options: StudyOptions, seed: int) -> Vectors:
    assert contestant.backbone is not None  # Contestant sees to it
    tune = TuneOptions(contestant.fine_tune, options.views, oversample=contestant.oversample, seed=seed)
    embed = fine_tune(*contestant.backbone(), labelled, split, tune)
    return Vectors(labelled, embed, options.views)


class _Classify:
    """Models on the embeddings of one split; what they predict for the test part are nodes of the study's tree."""

    def __init__(self, labelled: Labelled, split: Split, embedded: _Embedded, options: HeadOptions) -> None:
        self.whole, self.embedded, self.options = labelled.tree, embedded, options
        self.learning = [labelled.paths[position] for position in split.train]
        self.validating = [labelled.paths[position] for position in split.validation]

    def tree(self) -> Nodes:
        """One hierarchical head for the whole tree: the product's way."""
        head = self._train(self.whole, lambda path: (path,))
        return self._nodes(predict_paths(self.whole, head.weights.logits(self.embedded.test)[self.whole.control]))

    def level(self, level: int) -> tuple[Nodes, TrainedHead]:
        """A model for one level that knows nothing of the others: one softmax over the classes it learns from."""
        classes = sorted({path[:level] for path in self.learning if len(path) >= level})
        flat = Tree(of_level(level), "image", "choices", tuple((format_path(path),) for path in classes))
        head = self._train(flat, lambda path: ((format_path(path[:level]),),) if len(path) >= level else ())
        chosen = head.weights.logits(self.embedded.test)[flat.control].argmax(axis=1)
        return self._nodes([classes[number] for number in chosen]), head

    def probe(self) -> Nodes:
        """Logistic regression at level 1, the usual yardstick of an embedding; on the pictures without their views."""
        truth, validation = ([path[0] for path in paths] for paths in (self.learning, self.validating))
        first = np.searchsorted(self.embedded.owners, np.arange(len(truth)))
        balance = "balanced" if self.options.imbalance == "oversample" else None
        best, predicted = -1.0, [truth[0]] * len(self.embedded.test)
        for strength in _STRENGTHS if len(set(truth)) > 1 else ():
            regression = LogisticRegression(C=strength, max_iter=2000, class_weight=balance)
            model = make_pipeline(StandardScaler(), regression).fit(self.embedded.train[first], truth)
            score = model.score(self.embedded.validation, validation)
            if score > best:
                best, predicted = score, model.predict(self.embedded.test).tolist()
        return self._nodes([(name,) for name in predicted])

    def _train(self, tree: Tree, label: Callable[[TaxonomyPath], tuple[TaxonomyPath, ...]]) -> TrainedHead:
        outputs = Outputs((tree,))
        train, validation = (
            outputs.encode([{tree.control: label(path)} for path in paths])
            for paths in (self.learning, self.validating)
        )
        data = HeadData(self.embedded.train, self.embedded.owners, train)
        return train_head(data, outputs, self.options, HeadData.plain(self.embedded.validation, validation))

    def _nodes(self, paths: Sequence[TaxonomyPath]) -> Nodes:
        return tuple(self.whole.index[path] for path in paths)
