"""What is suggested for a task: the champion of its project, or, before there is one, a vote of its look-alikes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.protocol import PredictRequest, label_config, model_version_name, prediction_json
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.prediction.look_alikes import LookAlike, LookAlikes
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.head_weights import HeadWeights
from taxonomist.storage.catalog.documents import image_id
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import DamagedError, StorageError, TaxonomistError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.suggestion import Suggestion, calibrated_probabilities, suggest, vote
from taxonomist.taxonomy.tree import Tree

log = logging.getLogger(__name__)

AGAIN_S = 30.0
COUNT_AGAIN_S = 60.0  # for labels that another server brought


@dataclass(frozen=True)
class ServingModel:
    """One version, loaded. It is never changed: a request that began with it ends with it."""

    version: str
    backbone: str
    trees: Mapping[str, Tree]
    calibrations: Mapping[str, Calibration]
    head: HeadWeights

    def suggestions(self, vectors: NDArray[np.float32]) -> list[dict[str, Suggestion]]:
        """For each embedding (n, d) the suggestion of each control; a control without one is absent."""
        answers: list[dict[str, Suggestion]] = [{} for _ in vectors]
        for control, logits in self.head.logits(vectors).items():
            tree, calibration = self.trees[control], self.calibrations[control]
            probabilities = calibrated_probabilities(tree, logits, calibration)
            for answer, row in zip(answers, probabilities, strict=True):
                if suggestion := suggest(tree, row, calibration):
                    answer[control] = suggestion
        return answers


class _Kept(NamedTuple):
    """What came of the last loading, for which state of the aliases, and when to try it again."""

    stamp: object
    model: ServingModel | None
    again_at: float = float("inf")


class _Counted(NamedTuple):
    """How many images of a project are labelled, for which state of its labels, and until when that is believed."""

    stamp: int
    labelled: int
    until: float


class Predictor:
    """Answers /predict. Watches the registry, so that a promotion is served by the next request."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._models: dict[str, _Kept] = {}
        self._counts: dict[str, _Counted] = {}
        self.look_alikes = LookAlikes(services)

    def model_version(self, project: str) -> str:
        """The string that Label Studio is told in /setup and finds in each prediction. Loads no model.

        Without a champion it changes whenever the number of labelled images doubles, since that is when Label Studio
        should ask again.
        """
        version = self._services.registry.champion(registry_name(project))
        if version:
            return model_version_name(version)
        labelled = self._labelled(project)
        return model_version_name(f"look-alikes-{1 << labelled.bit_length() - 1 if labelled else 0}")

    def _labelled(self, project: str) -> int:
        """Counted when labels have changed: this is asked all the time, and in Cosmos DB counting is not free."""
        stamp = self._services.projects.get(project).labels_version
        kept = self._counts.get(project)
        if kept is None or kept.stamp != stamp or time.monotonic() > kept.until:
            labelled = self._services.catalog.count(project, labelled=True)
            kept = self._counts[project] = _Counted(stamp, labelled, time.monotonic() + COUNT_AGAIN_S)
        return kept.labelled

    def model(self, project: str) -> ServingModel | None:
        """The champion of a project, None when there is none yet.

        A champion that cannot be loaded is reported and the one that was served goes on. Where the store was not to be
        reached, it is tried again later.
        """
        name = registry_name(project)
        stamp = self._services.registry.alias_stamp(name)
        kept = self._models.get(project)
        if kept and kept.stamp == stamp and (time.monotonic() < kept.again_at or self._lock.locked()):
            return kept.model
        with self._lock:
            kept = self._models.get(project)
            if kept is None or kept.stamp != stamp or time.monotonic() >= kept.again_at:
                try:
                    kept = _Kept(stamp, self._load(name))
                except TaxonomistError as error:
                    log.error("the champion of project %s cannot be loaded, the former one goes on: %s", project, error)
                    away = isinstance(error, StorageError) and not isinstance(error, DamagedError)
                    again_at = time.monotonic() + AGAIN_S if away else float("inf")
                    kept = _Kept(stamp, kept.model if kept else None, again_at)
                self._models[project] = kept
        return kept.model

    def predict(self, request: PredictRequest) -> list[dict[str, Any]]:
        """One entry a task, in order; a task that fails has the empty suggestion and its reason in the log.

        Raises `ConfigError` when the labelling config has no taxonomy.
        """
        return self.predict_named(request)[0]

    def predict_named(self, request: PredictRequest) -> tuple[list[dict[str, Any]], list[str]]:
        """`predict`, and the ids of the tasks that the deadline left without an answer."""
        deadline = time.monotonic() + self._services.settings.predict_deadline
        config = label_config(request.label_config)
        model = self.model(request.project)
        version = model_version_name(model.version) if model else self.model_version(request.project)
        images: dict[str, str] = {}
        names: list[str | None] = []
        for task in request.tasks:
            try:
                uri = task.image_uri(config)
            except TaxonomistError as error:
                log.warning("project %s: %s", request.project, error)
                names.append(None)
            else:
                names.append(image_id(uri))
                images[image_id(uri)] = uri
        suggestions, late = self._suggestions(request.project, images, model, config, deadline)
        answers = [
            prediction_json(version, _parts(config, suggestions.get(name, {}) if name else {})) for name in names
        ]
        return answers, [str(task.id) for task, name in zip(request.tasks, names, strict=True) if name in late]

    def _suggestions(
        self, project: str, images: Mapping[str, str], model: ServingModel | None, config: LabelConfig, deadline: float
    ) -> tuple[dict[str, dict[str, Suggestion]], frozenset[str]]:
        backbone = model.backbone if model else self._services.registry.champion("backbone")
        if backbone is None or (model is None and not self._services.catalog.count(project, labelled=True)):
            return {}, frozenset()
        embedded = embed(self._services, project, images, backbone, deadline=deadline)
        if embedded.late:
            log.warning(
                "project %s: %d tasks are left to the worker, the deadline came first", project, len(embedded.late)
            )
        names = list(embedded.vectors)
        if not names:
            return {}, frozenset(embedded.late)
        vectors = np.stack([embedded.vectors[name] for name in names])
        if model:
            rows = model.suggestions(vectors)
        else:
            rows = [
                _vote(config, self.look_alikes.nearest(project, vector, backbone, exclude=name))
                for name, vector in zip(names, vectors, strict=True)
            ]
        return dict(zip(names, rows, strict=True)), frozenset(embedded.late)

    def _load(self, name: str) -> ServingModel | None:
        registry = self._services.registry
        version = registry.champion(name)
        if version is None:
            return None
        found = registry.get(name, version)
        registry.verify(found)
        trees = [Tree.from_json(tree) for tree in found.manifest["trees"]]
        return ServingModel(
            version=version,
            backbone=str(found.manifest["backbone"]),
            trees={tree.control: tree for tree in trees},
            calibrations={
                control: Calibration.from_json(data) for control, data in found.manifest["calibration"].items()
            },
            head=HeadWeights.load(found.path / "head.safetensors"),
        )


def _parts(config: LabelConfig, suggestions: Mapping[str, Suggestion]) -> list[tuple[Tree, Suggestion]]:
    """What of the suggestions today's labelling config still allows: it may have changed since the training."""
    parts = []
    for tree in config.trees:
        suggestion = suggestions.get(tree.control)
        if suggestion is None:
            continue
        path = tree.known_prefix(suggestion.path)
        if path and not (tree.leafs_only and not tree.is_leaf[tree.index[path]]):
            parts.append((tree, Suggestion(path, suggestion.score, len(path))))
    return parts


def _vote(config: LabelConfig, neighbours: Sequence[LookAlike]) -> dict[str, Suggestion]:
    answer = {}
    for tree in config.trees:
        votes = [
            (path, neighbour.similarity)
            for neighbour in neighbours
            for path in neighbour.labels.get(tree.control, ())
            if path in tree
        ]
        if suggestion := vote(tree, votes):
            answer[tree.control] = suggestion
    return answer
