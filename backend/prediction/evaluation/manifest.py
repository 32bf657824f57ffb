"""The champion on the images of a manifest: those that it has learned from are scored apart."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.labelling.manifests import read_manifest
from taxonomist.backend.labelling.manifests.label_configs import stored_paths
from taxonomist.backend.labelling.products import ProductImage
from taxonomist.backend.prediction.evaluation.per_image import EvaluatedImage, evaluated
from taxonomist.backend.prediction.evaluation.scores import ImageScores, ManifestScores, score_images
from taxonomist.backend.prediction.image_inputs import embed_inputs
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.serving_model import ServingModel
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.addresses import file_address
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.path_probabilities import greedy_path
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.suggestion import Suggestion, suggest_each
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.trained_on import TrainedOn, trained_on


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
    product_of = {file: product_of_row.get(file) or _named_product(file, product_field) for file in files}
    products = [product_of[file] for file in read]
    is_known = [
        learned.knows(image_id(file_address(file.as_posix())), file_hash, product)
        for file, file_hash, product in zip(read, embedded.file_hashes, products, strict=True)
    ]
    depth = max(tree.depth, max(len(path) for accepted in labels for path in accepted))

    def row_of(position: int, file: Path) -> EvaluatedImage:
        accepted = tuple(dict.fromkeys(truths[file]))
        if error := embedded.errors.get(position):
            return EvaluatedImage(str(file), product_of[file], False, accepted, error=str(error))
        row = row_of_position[position]
        answer = paths[row], suggestions[row]
        return evaluated(str(file), product_of[file], accepted, *answer, depth, learned_from=is_known[row])

    row_of_position = {position: row for row, position in enumerate(embedded.positions)}

    def scores_where(known: bool) -> ImageScores | None:
        chosen = [row for row, seen in enumerate(is_known) if seen == known]
        return score_images(tree, [(labels[row], paths[row], suggestions[row]) for row in chosen]) if chosen else None

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
        per_image=tuple(row_of(position, file) for position, file in enumerate(files)),
    )


def _named_product(file: Path, product_field: str | None) -> str | None:
    return ProductImage({}, str(file)).product(product_field) if product_field else None


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


def _predict(
    model: ServingModel, tree: Tree, vectors: NDArray[np.float32]
) -> tuple[list[TaxonomyPath | None], list[Suggestion | None]]:
    """Return the likeliest whole path and the suggestion for each of the embeddings (n, d)."""
    calibration = model.calibrations[tree.control]
    rows = model.probabilities(vectors)[tree.control]
    paths: list[TaxonomyPath | None] = [tree.paths[greedy_path(tree, row)[-1]] for row in rows]
    return paths, suggest_each(tree, rows, calibration)
