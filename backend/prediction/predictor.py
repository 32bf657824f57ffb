"""Suggestions for tasks: from the champion of the project, or from a vote of its look-alikes while there is none."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.predictions import model_version_name, prediction_json
from taxonomist.backend.label_studio.requests import PredictRequest
from taxonomist.backend.labelling.products import ProductImage
from taxonomist.backend.prediction.champions import Champions
from taxonomist.backend.prediction.embedding import embed, embed_without_storing
from taxonomist.backend.prediction.labelling_order import has_order, places
from taxonomist.backend.prediction.look_alikes import LookAlike, LookAlikes
from taxonomist.backend.prediction.product_images import ProductImages
from taxonomist.backend.prediction.task_parts import allowed_parts, task_parts
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.inference.serving_model import Assessment, ServingModel
from taxonomist.storage.catalog.documents import image_id
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.monitoring import is_blind
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath
from taxonomist.taxonomy.suggestion import Suggestion, vote
from taxonomist.taxonomy.tree_changes.new_nodes import propose_new_node

log = logging.getLogger(__name__)

MOST_PREVIEWS = 10_000  # addresses of tasks that are not saved
RECOUNT_S = 60.0  # after which labels are counted again: another server may have written some


class _LabelCount(NamedTuple):
    """How many images of a project are labelled, the version of the labels it belongs to, and when it expires."""

    labels_version: int
    labelled: int
    expires_at: float


class Predictions(NamedTuple):
    """One prediction for each task as Label Studio's JSON, in order.

    `unanswered` has the ids of the tasks that may get a suggestion later: they were not answered before the deadline,
    or an image of theirs could not be read. `suggested` is what the predictions suggest, and what they would suggest
    for blind tasks, for `Services.suggestions`.
    """

    answers: list[dict[str, Any]]
    unanswered: list[str]
    suggested: list[StoredSuggestion]


class Predictor:
    """Answers /predict. It watches the registry: the next request after a promotion is served by the new version."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._champions = Champions(services)
        self._counts: dict[str, _LabelCount] = {}
        self._previews: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.look_alikes = LookAlikes(services, self._champions)
        self._products = ProductImages(services)

    def previewed(self, project: str, image: str) -> str | None:
        """Return the address of an image that came lately in a task that Label Studio has not saved, else None."""
        return self._previews.get((project, image))

    def _keep_previews(self, project: str, images: Mapping[str, str]) -> None:
        with self._lock:
            self._previews.update({(project, image): uri for image, uri in images.items()})
            while len(self._previews) > MOST_PREVIEWS:
                self._previews.popitem(last=False)

    def model_version(self, project: str) -> str:
        """Return the version string that /setup and each prediction carry. No model is loaded.

        Without a champion it changes whenever the number of labelled images doubles, so that Label Studio then asks
        for new predictions.
        """
        version = self._services.registry.champion(registry_name(project))
        if version:
            return model_version_name(version)
        labelled = self._labelled(project)
        return model_version_name(f"look-alikes-{1 << labelled.bit_length() - 1 if labelled else 0}")

    def _labelled(self, project: str) -> int:
        """Return the number of labelled images. It is counted only after labels have changed, since the version is
        asked for with each request and a count in Cosmos DB costs request units."""
        labels_version = self._services.projects.get(project).labels_version
        count = self._counts.get(project)
        if count is None or count.labels_version != labels_version or time.monotonic() > count.expires_at:
            labelled = self._services.catalog.count(project, labelled=True)
            count = self._counts[project] = _LabelCount(labels_version, labelled, time.monotonic() + RECOUNT_S)
        return count.labelled

    def model(self, project: str) -> ServingModel | None:
        """Return the champion of a project, see `Champions.get`."""
        return self._champions.get(project)

    def backbone(self, project: str) -> str | None:
        """Return the version of the backbone that embeds the images of a project, None while there is none."""
        return self._backbone_of(self.model(project))

    def suggest(
        self, project: str, vectors: NDArray[np.float32], names: Sequence[str] = ()
    ) -> list[dict[str, Suggestion]]:
        """Return, for each of the embeddings (n, d) by `backbone(project)`, the suggestion by control.

        `names` has the id of each image, if they are in the catalogue: other images of their products then help.
        A control without a suggestion is absent. Raises `ConfigError` when the project's taxonomy is not known.
        """
        config, model = self._services.label_config(project), self.model(project)
        backbone = self._backbone_of(model)
        if backbone is None or not len(vectors):
            return [{} for _ in vectors]
        images = dict.fromkeys(names or ())
        rows = self._suggest(project, config, model, backbone, vectors, names or [None] * len(vectors), images)
        return [{tree.control: suggestion for tree, suggestion in allowed_parts(config, row)} for row in rows]

    def is_blind(self, project: str, image: str) -> bool:
        """Return whether an image belongs to a task that is left empty as a sample. Without a model there is none."""
        if self.model(project) is None:
            return False
        tasks = self._services.journal.tasks(project, image)
        return any(self._is_blind(project, task.task_id) for task in tasks)

    def probabilities(
        self, project: str, vector: NDArray[np.float32], image: str | None = None
    ) -> dict[str, dict[TaxonomyPath, float]]:
        """Return, by control, the calibrated probability of each node that has one, for an embedding (d,).

        Its suggestion is chosen from them. `image` is its id, where the catalogue has it. Empty without a model.
        """
        model = self.model(project)
        if model is None:
            return {}
        config = self._services.label_config(project)
        (assessments,) = self.assessments(project, vector[None], () if image is None else [image])
        found: dict[str, dict[TaxonomyPath, float]] = {}
        for control, assessment in assessments.items():
            nodes = zip(model.trees[control].paths, assessment.probabilities.tolist(), strict=True)
            found[config.present(control)] = {path: chance for path, chance in nodes if path != NO_ANSWER}
        return found

    def assessments(
        self, project: str, vectors: NDArray[np.float32], names: Sequence[str] = ()
    ) -> list[dict[str, Assessment]]:
        """Return, for each of the embeddings (n, d), what the model's suggestions are chosen from, by learned control.

        `names` are those of `suggest`. Empty without a model.
        """
        model = self.model(project)
        if model is None:
            return [{} for _ in vectors]
        others = self._others(project, model, vectors, names or [None] * len(vectors), dict.fromkeys(names))
        return model.assessments(vectors, others)

    def new_nodes(self, project: str, look_alikes: Sequence[LookAlike]) -> dict[str, TaxonomyPath]:
        """Return, by control, the node that the served version has not learned and the nearest look-alikes have.

        It is their proposal: nothing is promised about it. Empty while there is no model, when they suggest anyhow.
        """
        model = self.model(project)
        if model is None:
            return {}
        found = {}
        for tree in self._services.label_config(project).trees:
            learned = next((model.trees[name] for name in (tree.control, *tree.former) if name in model.trees), None)
            labels = [look_alike.labels.get(tree.control, ()) for look_alike in look_alikes]
            if learned and (node := propose_new_node(tree, learned, labels)):
                found[tree.control] = node
        return found

    def predict(self, request: PredictRequest) -> list[dict[str, Any]]:
        """Return one prediction for each task, in order. A task that fails gets the empty suggestion, and the reason
        is logged.

        Raises `ConfigError` when the labelling config has no taxonomy.
        """
        return self.predict_named(request).answers

    def predict_named(self, request: PredictRequest) -> Predictions:
        """Return what `predict` returns, and what became of each task.

        The image of a task that Label Studio has not saved, such as a sample, is embedded, and nothing is stored. A
        blind task gets the empty prediction, with the score of what is not shown, so that an order by score is no other
        one. Without a model there are no blind tasks.
        """
        deadline = time.monotonic() + self._services.settings.predict_deadline
        config = self._services.projects.get(request.project).read_config(request.label_config)
        model = self.model(request.project)
        version = model_version_name(model.version) if model else self.model_version(request.project)
        images: dict[str, str] = {}
        previewed: dict[str, str] = {}
        shown: dict[str, ProductImage] = {}
        images_of: list[dict[str, str]] = []  # by task: the id of each image by the name of its <Image>
        for task in request.tasks:
            try:
                addresses = task.images(config)
            except TaxonomistError as error:
                log.warning("project %s: %s", request.project, error)
                addresses = {}
            (images if task.is_saved else previewed).update({image_id(uri): uri for uri in addresses.values()})
            shown |= {image_id(uri): ProductImage(task.data, uri) for uri in addresses.values() if task.is_saved}
            images_of.append({name: image_id(uri) for name, uri in addresses.items()})
        previewed = {image: uri for image, uri in previewed.items() if image not in images}
        if previewed:
            self._keep_previews(request.project, previewed)
        suggestions, unanswered = self._suggestions(request.project, images, previewed, model, config, deadline, shown)
        parts_of = [task_parts(config, suggestions, ids) for ids in images_of]
        saved = [
            (str(task.id), ids, parts)
            for task, ids, parts in zip(request.tasks, images_of, parts_of, strict=True)
            if task.is_saved
        ]
        now = time.time()
        blind = [
            bool(model) and task.is_saved and self._is_blind(request.project, str(task.id)) for task in request.tasks
        ]
        blind_ids = {str(task.id) for task, hidden in zip(request.tasks, blind, strict=True) if hidden}
        answers = [prediction_json(version, parts) for parts in parts_of]
        answers = [_hidden(answer) if hidden else answer for answer, hidden in zip(answers, blind, strict=True)]
        if has_order(self._services, request.project):
            scores = places(self._services, request.project, [ids.values() for ids in images_of])
            answers = [answer | {"score": score} for answer, score in zip(answers, scores, strict=True)]
        return Predictions(
            answers,
            [id for id, ids, _ in saved if not unanswered.isdisjoint(ids.values())],
            [
                StoredSuggestion(
                    id, tree.control, version, ids[tree.to_name], found.path, found.score, now, id in blind_ids
                )
                for id, ids, parts in saved
                for tree, found in parts
                if found.path
            ],
        )

    def _is_blind(self, project: str, task_id: str) -> bool:
        return is_blind(project, task_id, self._services.settings.blind_share)

    def _suggestions(
        self,
        project: str,
        images: Mapping[str, str],
        previewed: Mapping[str, str],
        model: ServingModel | None,
        config: LabelConfig,
        deadline: float,
        shown: Mapping[str, ProductImage],
    ) -> tuple[dict[str, dict[str, Suggestion]], frozenset[str]]:
        """Return the suggestions by image, and the images that were late or could not be read.

        Nothing of the images in `previewed` is stored. `shown` has the tasks of the others.
        """
        backbone = self._backbone_of(model)
        if backbone is None or (model is None and not self._can_vote(project)):
            return {}, frozenset()
        embedded = embed(self._services, project, images, backbone, deadline=deadline)
        if previewed:
            embedded |= embed_without_storing(self._services, project, previewed, backbone, deadline=deadline)
        if embedded.late:
            log.warning(
                "project %s: the deadline has passed, %d images are left to the worker", project, len(embedded.late)
            )
        unanswered = frozenset(embedded.late) | embedded.failures.keys()
        names = list(embedded.vectors)
        if not names:
            return {}, unanswered
        vectors = np.stack([embedded.vectors[name] for name in names])
        rows = self._suggest(project, config, model, backbone, vectors, names, shown)
        return dict(zip(names, rows, strict=True)), unanswered

    def _can_vote(self, project: str) -> bool:
        """Return whether labels of the project may vote; not those of one that is being forgotten, without a record."""
        return self._services.projects.exists(project) and bool(self._services.catalog.count(project, labelled=True))

    def _backbone_of(self, model: ServingModel | None) -> str | None:
        return model.backbone if model else self._services.registry.champion(BACKBONE)

    def _suggest(
        self,
        project: str,
        config: LabelConfig,
        model: ServingModel | None,
        backbone: str,
        vectors: NDArray[np.float32],
        names: Sequence[str | None],
        shown: Mapping[str, ProductImage | None],
    ) -> list[dict[str, Suggestion]]:
        """Return the suggestions of each image; those in `shown`, by id, may be helped by others of their products."""
        if model:
            rows = model.suggestions(vectors, self._others(project, model, vectors, names, shown))
            return [{config.present(control): suggestion for control, suggestion in row.items()} for row in rows]
        return [
            _vote(config, self.look_alikes.nearest(project, vector, backbone, exclude=name))
            for name, vector in zip(names, vectors, strict=True)
        ]

    def _others(
        self,
        project: str,
        model: ServingModel,
        vectors: NDArray[np.float32],
        names: Sequence[str | None],
        shown: Mapping[str, ProductImage | None],
    ) -> list[NDArray[np.float32]] | None:
        """Return for each image the embeddings of others of its product, None where the model does not use them."""
        if not model.fusions or not shown:
            return None
        places = {name: place for place, name in enumerate(shown)}
        others = self._products.others(project, model.backbone, shown, vectors.shape[1])
        none = vectors[:0]
        return [others[places[name]] if name in places else none for name in names]


def _hidden(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of a blind task."""
    return {"model_version": answer["model_version"], "score": answer["score"], "result": []}


def _vote(config: LabelConfig, look_alikes: Sequence[LookAlike]) -> dict[str, Suggestion]:
    """Return, by control, the path on which the look-alikes agree; a control without one is absent.

    A look-alike whose control annotators left empty votes for no answer: it counts against every path.
    """
    suggestions = {}
    for tree in config.trees:
        votes = [
            (path, look_alike.similarity)
            for look_alike in look_alikes
            for path in look_alike.labels.get(tree.control, ())
            if tree.node_of(path)
        ]
        votes += [
            (NO_ANSWER, look_alike.similarity) for look_alike in look_alikes if tree.control in look_alike.unanswered
        ]
        if suggestion := vote(tree, votes):
            suggestions[tree.control] = suggestion
    return suggestions
