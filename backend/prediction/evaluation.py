"""The champion on images that are not stored: its scores on an unseen manifest, and the look-alikes of an image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.manifests import read_manifest
from taxonomist.backend.labelling.manifests.label_configs import stored_paths
from taxonomist.backend.labelling.products import ProductImage
from taxonomist.backend.prediction.image_inputs import ImageInput, embed_inputs
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.serving_model import ServingModel
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.addresses import file_address
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.path_probabilities import greedy_path
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.suggestion import Suggestion, suggest
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import evaluate_paths
from taxonomist.training.heads.data.trained_on import TrainedOn, trained_on


@dataclass(frozen=True)
class LevelScores:
    """The scores at one level: `images` are those whose label reaches it.

    `accuracy` and `macro_f1` are those of the whole likeliest path. `suggested` is the share of images for which a
    suggestion reaches the level, and `precision` the share of these that is right there, None without any.
    """

    level: int
    images: int
    accuracy: float
    macro_f1: float
    suggested: float
    precision: float | None


@dataclass(frozen=True)
class ImageScores:
    """The champion's scores on some labelled images, level by level. Shares and scores are 0 to 1.

    `mean_depth` is the mean level that suggestions reach.
    """

    images: int
    levels: tuple[LevelScores, ...]
    hierarchical_precision: float
    hierarchical_recall: float
    hierarchical_f1: float
    mean_depth: float


@dataclass(frozen=True)
class ManifestScores:
    """The champion's scores on the labelled images of a manifest. Shares and scores are 0 to 1.

    All scores are of the `images` that the champion has not learned from; without any they are None. `learned_from` has
    the scores of those that it knows: the image, a copy of its file, or another image of its product.
    `outside_taxonomy` counts the images whose label is not in the model's taxonomy; they count as wrong. `mean_depth`
    is the mean level that suggestions reach. `products_known` says whether the manifest and the champion's images name
    their products; otherwise another image of a product that it learned from is not recognised.
    """

    project: str
    model_version: str
    backbone: str
    manifest: str
    images: int
    unreadable: int
    outside_taxonomy: int
    levels: tuple[LevelScores, ...]
    hierarchical_precision: float | None
    hierarchical_recall: float | None
    hierarchical_f1: float | None
    mean_depth: float | None
    problems: tuple[str, ...]
    learned_from: ImageScores | None = None
    products_known: bool = True

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the scores must know, in sentences."""
        caveats = []
        if self.learned_from is not None:
            caveats.append(
                f"{self.model_version} has learned from {self.learned_from.images} of the images, or from other images "
                "of their products: these are scored apart, and say nothing about unseen products."
            )
        if not self.products_known:
            caveats.append("Products unknown: other images of a product that was learned from are not recognised.")
        return tuple(caveats)


def evaluate_manifest(
    services: Services,
    project: str,
    manifest: Path,
    *,
    images: Path | None = None,
    advance: CountProgress = ignore_counts,
) -> ManifestScores:
    """Return the champion's scores on the labelled images of a manifest, level by level. Nothing is stored.

    Raises `NotFoundError` when there is no champion, and `ConfigError` when the manifest has no labelled image that
    can be read.
    """
    model = Predictor(services).model(project)
    if model is None:
        raise NotFoundError(f"Project {project} has no model yet.", hint=f"taxonomist train --project {project}")
    rows, problems = read_manifest(manifest, images)
    tree = next(iter(model.trees.values()))
    names = _names_in_tree({row.path for row in rows if row.path}, tree, _current_tree(services, project, tree))
    truths: dict[Path, list[TaxonomyPath]] = {}
    for row in rows:
        if row.path:
            truths.setdefault(row.file, []).append(names[row.path])
    if not truths:
        raise ConfigError(f"{manifest} has no labelled image.", hint=problems[0] if problems else None)
    files = list(truths)
    embedded = embed_inputs(services, project, files, model.backbone, advance)
    if not embedded.positions:
        raise ConfigError(f"None of the images of {manifest} can be read.", hint=str(embedded.errors[0]))
    read = [files[position] for position in embedded.positions]
    labels = [truths[file] for file in read]
    paths, suggestions = _predict(model, tree, embedded.vectors)
    learned = _learned_from(services, project, model.version)
    product_field = services.project_settings(project).product_field
    product_of_row = {row.file: row.product for row in rows if row.product}
    products = [
        product_of_row.get(file) or (ProductImage({}, str(file)).product(product_field) if product_field else None)
        for file in read
    ]
    is_known = [
        learned.knows(image_id(file_address(file.as_posix())), file_hash, product)
        for file, file_hash, product in zip(read, embedded.file_hashes, products, strict=True)
    ]

    def scores_where(known: bool) -> ImageScores | None:
        chosen = [row for row, seen in enumerate(is_known) if seen == known]
        return _scores(tree, [(labels[row], paths[row], suggestions[row]) for row in chosen]) if chosen else None

    unseen = scores_where(False)
    return ManifestScores(
        project=project,
        model_version=model_version_name(model.version),
        backbone=model.backbone,
        manifest=str(manifest),
        images=unseen.images if unseen else 0,
        unreadable=len(embedded.errors) + len(problems),
        outside_taxonomy=sum(1 for accepted in labels if not any(path in tree for path in accepted)),
        levels=unseen.levels if unseen else (),
        hierarchical_precision=unseen.hierarchical_precision if unseen else None,
        hierarchical_recall=unseen.hierarchical_recall if unseen else None,
        hierarchical_f1=unseen.hierarchical_f1 if unseen else None,
        mean_depth=unseen.mean_depth if unseen else None,
        problems=(*problems, *(str(error) for error in embedded.errors.values())),
        learned_from=scores_where(True),
        products_known=bool(learned.products) and None not in products,
    )


def _current_tree(services: Services, project: str, tree: Tree) -> Tree:
    """Return the model's tree as it is in the project's labelling config, which has the values of aliased choices.

    A config without the control, or none, leaves the model's own tree.
    """
    try:
        return services.label_config(project).tree(tree.control)
    except ConfigError:
        return tree


def _names_in_tree(paths: Collection[TaxonomyPath], tree: Tree, current: Tree) -> dict[TaxonomyPath, TaxonomyPath]:
    """Return the label that each path of a manifest is in the model's tree, as an import into `current` stores it.

    A choice that got an alias after the model was trained keeps its former name, which the model has.
    """
    now, at_training = stored_paths(paths, current), stored_paths(paths, tree)
    names = {}
    for path, stored in now.items():
        known = current.known_prefix(stored)
        label = (*known, *stored[len(known) :])
        names[path] = at_training[path] if label not in tree and at_training[path] in tree else label
    return names


def _learned_from(services: Services, project: str, version: str) -> TrainedOn:
    """Return what the version has learned from. Products that became known later are those of the catalogue."""
    learned = trained_on(services.registry.get(registry_name(project), version))
    documents = services.catalog.get_many(learned.ids).values()
    products = frozenset(product for document in documents if (product := document.product(project)))
    return replace(learned, products=learned.products | products)


def _scores(
    tree: Tree, scored: Sequence[tuple[Sequence[TaxonomyPath], TaxonomyPath | None, Suggestion | None]]
) -> ImageScores:
    """Return the scores of some images: their labels, their likeliest path and their suggestion."""
    labels = [accepted for accepted, _, _ in scored]
    suggestions = [suggestion for _, _, suggestion in scored]
    known = Tree.from_paths(tree.control, [*tree.paths, *(path for accepted in labels for path in accepted)])
    metrics = evaluate_paths(known, labels, [path for _, path, _ in scored])
    return ImageScores(
        images=len(labels),
        levels=tuple(
            LevelScores(
                level.level,
                level.support,
                level.accuracy,
                level.macro_f1,
                *_suggested(level.level, labels, suggestions),
            )
            for level in metrics.levels
        ),
        hierarchical_precision=metrics.hierarchical_precision,
        hierarchical_recall=metrics.hierarchical_recall,
        hierarchical_f1=metrics.hierarchical_f1,
        mean_depth=sum(suggestion.level if suggestion else 0 for suggestion in suggestions) / len(suggestions),
    )


def look_alikes_of_image(
    services: Services, project: str, image: ImageInput, k: int | None = None, predictor: Predictor | None = None
) -> list[LookAlike]:
    """Return the labelled images of a project that look most like an image, best first.

    Raises `NotFoundError` when nothing has been embedded yet, and the error of an image that cannot be read.
    """
    predictor = predictor or Predictor(services)
    backbone = predictor.backbone(project)
    if backbone is None:
        raise NotFoundError("No image has been embedded yet.", hint=f"taxonomist embed --project {project}")
    embedded = embed_inputs(services, project, [image], backbone)
    if embedded.errors:
        raise embedded.errors[0]
    return predictor.look_alikes.shown(project, embedded.vectors[0], backbone, k=k)


def _predict(
    model: ServingModel, tree: Tree, vectors: NDArray[np.float32]
) -> tuple[list[TaxonomyPath | None], list[Suggestion | None]]:
    """Return the likeliest whole path and the suggestion for each of the embeddings (n, d)."""
    calibration = model.calibrations[tree.control]
    rows = model.probabilities(vectors)[tree.control]
    paths: list[TaxonomyPath | None] = [tree.paths[greedy_path(tree, row)[-1]] for row in rows]
    return paths, [suggest(tree, row, calibration) for row in rows]


def _suggested(
    level: int, truths: Sequence[Sequence[TaxonomyPath]], suggestions: Sequence[Suggestion | None]
) -> tuple[float, float | None]:
    """Return the share of images that get a suggestion at the level, and the share of these that is right."""
    reached = right = images = 0
    for paths, suggestion in zip(truths, suggestions, strict=True):
        nodes = {node for path in paths for node in prefixes(path) if len(node) == level}
        if not nodes:
            continue
        images += 1
        if suggestion and suggestion.level >= level:
            reached += 1
            right += suggestion.path[:level] in nodes
    return reached / images if images else 0.0, right / reached if reached else None
