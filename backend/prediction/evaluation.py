"""The champion on image files: its scores on a manifest that it has not seen, and the look-alikes of a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.protocol import model_version_name
from taxonomist.backend.labelling.manifests import read_manifest
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.pipeline import EMBEDDING, DecodedImage, ImageFailure, ImageResult, process_images
from taxonomist.inference.serving_model import ServingModel
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.taxonomy.errors import ConfigError, ImageUnavailableError, NotFoundError
from taxonomist.taxonomy.path_probabilities import greedy_path
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.suggestion import Suggestion, suggest
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import evaluate_paths


def evaluate_manifest(
    services: Services,
    project: str,
    manifest: Path,
    *,
    images: Path | None = None,
    advance: CountProgress = ignore_counts,
) -> dict[str, Any]:
    """Return the champion's scores on the labelled images of a manifest, level by level, as JSON-ready values.

    Accuracy and macro-F1 are those of the whole likeliest path. `suggested` is the share of images for which a
    suggestion reaches the level, and `precision` the share of these that is right there. Nothing is stored. An image
    whose label is not in the model's taxonomy counts as wrong. Raises `NotFoundError` when there is no champion, and
    `ConfigError` when the manifest has no labelled image that can be read.
    """
    model = Predictor(services).model(project)
    if model is None:
        raise NotFoundError(f"Project {project} has no model yet.", hint=f"taxonomist train --project {project}")
    rows, problems = read_manifest(manifest, images)
    truths: dict[Path, list[TaxonomyPath]] = {}
    for row in rows:
        if row.path:
            truths.setdefault(row.file, []).append(row.path)
    if not truths:
        raise ConfigError(f"{manifest} has no labelled image.", hint=problems[0] if problems else None)
    tree = next(iter(model.trees.values()))
    embedded = _embed_files(services, list(truths), model.backbone, advance)
    if not embedded.files:
        reason = next(iter(embedded.unreadable.values()))
        raise ConfigError(f"None of the images of {manifest} can be read.", hint=reason)
    labels = [truths[file] for file in embedded.files]
    paths, suggestions = _predict(model, tree, embedded.vectors)
    known = Tree.from_paths(tree.control, [*tree.paths, *(path for accepted in labels for path in accepted)])
    metrics = evaluate_paths(known, labels, paths)
    return {
        "project": project,
        "model_version": model_version_name(model.version),
        "backbone": model.backbone,
        "manifest": str(manifest),
        "images": len(embedded.files),
        "unreadable": len(embedded.unreadable) + len(problems),
        "outside_taxonomy": sum(1 for accepted in labels if not any(path in tree for path in accepted)),
        "levels": [
            {
                "level": level.level,
                "images": level.support,
                "accuracy": level.accuracy,
                "macro_f1": level.macro_f1,
                **_suggested(level.level, labels, suggestions),
            }
            for level in metrics.levels
        ],
        "hierarchical_precision": metrics.hierarchical_precision,
        "hierarchical_recall": metrics.hierarchical_recall,
        "hierarchical_f1": metrics.hierarchical_f1,
        "mean_depth": sum(suggestion.level if suggestion else 0 for suggestion in suggestions) / len(suggestions),
        "problems": [*problems, *(f"{file}: {reason}" for file, reason in embedded.unreadable.items())],
    }


def look_alikes_of_file(services: Services, project: str, file: Path, k: int | None = None) -> list[LookAlike]:
    """Return the labelled images of a project that look most like an image file, best first.

    Raises `NotFoundError` when nothing has been embedded yet, and `ConfigError` when the file cannot be read.
    """
    predictor = Predictor(services)
    model = predictor.model(project)
    backbone = model.backbone if model else services.registry.champion(BACKBONE)
    if backbone is None:
        raise NotFoundError("No image has been embedded yet.", hint=f"taxonomist embed --project {project}")
    embedded = _embed_files(services, [file], backbone)
    if not embedded.files:
        raise ConfigError(f"{file} cannot be read: {embedded.unreadable[file]}")
    return predictor.look_alikes.shown(project, embedded.vectors[0], backbone, k=k)


@dataclass(frozen=True)
class _EmbeddedFiles:
    """Files that could be read, their embeddings (n, d), and the reason for each other file."""

    files: list[Path]
    vectors: NDArray[np.float32]
    unreadable: dict[Path, str]


def _embed_files(
    services: Services, files: Sequence[Path], backbone: str, progress: CountProgress = ignore_counts
) -> _EmbeddedFiles:
    embedder = services.embedder(backbone)

    def load(file: Path) -> DecodedImage:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ImageUnavailableError(error.strerror or str(error)) from error
        return DecodedImage.from_bytes(data, embedder.size, max_pixels=services.settings.max_image_pixels)

    readable: list[Path] = []
    vectors: list[NDArray[np.float32]] = []
    unreadable: dict[Path, str] = {}
    with closing(process_images(files, load, embedder)) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, ImageResult):
                readable.append(outcome.source)
                vectors.append(outcome.vectors)
            elif isinstance(outcome, ImageFailure):
                unreadable[outcome.source] = str(outcome.error)
            if done % EMBEDDING.batch == 0 or done == len(files):
                progress(done, len(files))
    return _EmbeddedFiles(readable, np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32), unreadable)


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
) -> dict[str, float | None]:
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
    return {"suggested": reached / images if images else 0.0, "precision": right / reached if reached else None}
