"""One run of a study: one contestant on the split of one seed. Predictions are stored; scores are computed later."""

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
from taxonomist.training.heads.data.targets import HeadData, Outputs
from taxonomist.training.heads.evaluation import predict_paths
from taxonomist.training.heads.head import Epoch, HeadOptions, Imbalance, TrainedHead, train_head
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.embeddings import CachedEmbeddings
from taxonomist.training.study.fine_tune import TuneOptions, fine_tune
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.split import Split

SHARED = "shared"
"""Predictions of one head for the whole tree."""
PROBE = "probe"
"""Predictions of a linear probe at level 1."""
Nodes = tuple[int, ...]
"""For each test image the node of the study's tree that a model predicts."""

_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of the linear probe; the validation part chooses


def of_level(level: int) -> str:
    """Return the name of a model that knows one level only."""
    return f"level {level}"


@dataclass(frozen=True)
class Trial:
    """The result of one run.

    `train`, `validation` and `test` are positions among the labelled images, `predictions` those of each model for the
    test images, `curves` those of the head at level 1, `best` the epoch that was kept. Times are in seconds.
    """

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
        """Return the trial as `from_json` reads it."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Trial":
        """Return the trial of `to_json`. Raises ValueError, KeyError or TypeError when `data` is something else."""
        fields: dict[str, Any] = json.loads(data)
        fields |= {part: tuple(fields[part]) for part in ("train", "validation", "test")}
        fields["predictions"] = {name: tuple(nodes) for name, nodes in fields["predictions"].items()}
        fields["curves"] = tuple(Epoch(**epoch) for epoch in fields["curves"])
        return cls(**fields)


@dataclass(frozen=True)
class _Embedded:
    """The embeddings of a split's three parts; `owners` are the images of the rows of `train`."""

    train: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]
    validation: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]


def run_trial(
    labelled: LabelledImages,
    contestant: Contestant,
    split: Split,
    options: StudyOptions,
    seed: int,
    frozen: CachedEmbeddings,
) -> Trial:
    """Embed, train the heads and the probe on the training part, and return predictions of the test part.

    `frozen` are the embeddings by the contestant without fine-tuning. Raises TrainingError or ConfigError.
    """
    started = time.monotonic()
    source = _fine_tuned(labelled, contestant, split, options, seed) if contestant.fine_tune else frozen
    embedded = _Embedded(*source.with_views(split.train), source.plain(split.validation), source.plain(split.test))
    embedded_at = time.monotonic()
    imbalance: Imbalance = "oversample" if contestant.oversample else "none"
    classifiers = _Classifiers(labelled, split, embedded, replace(options.head, imbalance=imbalance, seed=seed))
    levels = {level: classifiers.level(level) for level in range(1, _depth(labelled, split) + 1)}
    predictions = {of_level(level): nodes for level, (nodes, _) in levels.items()}
    return Trial(
        contestant.name,
        seed,
        tuple(split.train.tolist()),
        tuple(split.validation.tolist()),
        tuple(split.test.tolist()),
        {SHARED: classifiers.tree(), PROBE: classifiers.probe(), **predictions},
        levels[1][1].curves,
        levels[1][1].best,
        round(embedded_at - started, 2),
        round(time.monotonic() - embedded_at, 2),
    )


def _depth(labelled: LabelledImages, split: Split) -> int:
    """Return the deepest level that training images are labelled at."""
    return max(len(labelled.paths[position]) for position in split.train)


def _fine_tuned(
    labelled: LabelledImages, contestant: Contestant, split: Split, options: StudyOptions, seed: int
) -> CachedEmbeddings:
    assert contestant.backbone is not None  # Contestant checks it
    tune = TuneOptions(contestant.fine_tune, options.views, oversample=contestant.oversample, seed=seed)
    embed = fine_tune(*contestant.backbone(), labelled, split, tune)
    return CachedEmbeddings(labelled, embed, options.views)


class _Classifiers:
    """Trains models on the embeddings of one split; each method returns nodes of the study's tree for the test part."""

    def __init__(self, labelled: LabelledImages, split: Split, embedded: _Embedded, options: HeadOptions) -> None:
        self.whole, self.embedded, self.options = labelled.tree, embedded, options
        self.train_paths = [labelled.paths[position] for position in split.train]
        self.validation_paths = [labelled.paths[position] for position in split.validation]

    def tree(self) -> Nodes:
        """Return predictions of one hierarchical head for the whole tree, as the product trains it."""
        head = self._train(self.whole, lambda path: (path,))
        return self._nodes(predict_paths(self.whole, head.weights.logits(self.embedded.test)[self.whole.control]))

    def level(self, level: int) -> tuple[Nodes, TrainedHead]:
        """Return predictions of a model for one level alone, one softmax over its training classes, and the model."""
        classes = sorted({path[:level] for path in self.train_paths if len(path) >= level})
        flat = Tree(of_level(level), "image", "choices", tuple((format_path(path),) for path in classes))
        head = self._train(flat, lambda path: ((format_path(path[:level]),),) if len(path) >= level else ())
        chosen = head.weights.logits(self.embedded.test)[flat.control].argmax(axis=1)
        return self._nodes([classes[number] for number in chosen]), head

    def probe(self) -> Nodes:
        """Return predictions of a logistic regression at level 1, the usual measure of an embedding; without views."""
        truth, validation = ([path[0] for path in paths] for paths in (self.train_paths, self.validation_paths))
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
            for paths in (self.train_paths, self.validation_paths)
        )
        data = HeadData(self.embedded.train, self.embedded.owners, train)
        return train_head(data, outputs, self.options, HeadData.plain(self.embedded.validation, validation))

    def _nodes(self, paths: Sequence[TaxonomyPath]) -> Nodes:
        return tuple(self.whole.index[path] for path in paths)
