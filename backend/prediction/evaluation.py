"""The champion on pictures from files: how good it is on an unseen manifest, and what a picture looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.label_studio.protocol import model_version_name
from taxonomist.backend.labelling.manifests import read_manifest
from taxonomist.backend.prediction.embedding import BATCH, READERS
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.inference.image_decoding import decode_image, prepare_image
from taxonomist.inference.serving_model import ServingModel
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TaxonomistError
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
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The champion's scores on a manifest's labelled images, level by level, as JSON-ready values.

    Accuracy and macro-F1 are those of the whole likeliest path. `suggested` is the share of images for which a
    suggestion reaches the level, `precision` how often it is right there. Nothing is stored. A label that the model's
    taxonomy lacks counts as an image the model gets wrong. Raises `NotFoundError` when there is no champion.
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
    read, vectors, unreadable = _embed_files(services, list(truths), model.backbone, advance)
    if not read:
        raise ConfigError(f"None of the images of {manifest} can be read.", hint=next(iter(unreadable.values())))
    wanted = [truths[file] for file in read]
    paths, suggestions = _answers(model, tree, vectors)
    known = Tree.from_paths(tree.control, [*tree.paths, *(path for each in wanted for path in each)])
    metrics = evaluate_paths(known, wanted, paths)
    return {
        "project": project,
        "model_version": model_version_name(model.version),
        "backbone": model.backbone,
        "manifest": str(manifest),
        "images": len(read),
        "unreadable": len(unreadable) + len(problems),
        "outside_taxonomy": sum(1 for each in wanted if not any(path in tree for path in each)),
        "levels": [
            {
                "level": level.level,
                "images": level.support,
                "accuracy": level.accuracy,
                "macro_f1": level.macro_f1,
                **_suggested(level.level, wanted, suggestions),
            }
            for level in metrics.levels
        ],
        "hierarchical_precision": metrics.hierarchical_precision,
        "hierarchical_recall": metrics.hierarchical_recall,
        "hierarchical_f1": metrics.hierarchical_f1,
        "mean_depth": sum(suggestion.level if suggestion else 0 for suggestion in suggestions) / len(suggestions),
        "problems": [*problems, *(f"{file}: {reason}" for file, reason in unreadable.items())],
    }


def look_alikes_of_file(services: Services, project: str, file: Path, k: int | None = None) -> list[LookAlike]:
    """The labelled images of a project that look most like a picture on this disk, best first.

    Raises `NotFoundError` when nothing has been embedded yet, `ConfigError` or `ImageDecodingError` for a file that is
    no image.
    """
    predictor = Predictor(services)
    model = predictor.model(project)
    backbone = model.backbone if model else services.registry.champion(BACKBONE)
    if backbone is None:
        raise NotFoundError("No image has been embedded yet.", hint=f"taxonomist embed --project {project}")
    read, vectors, unreadable = _embed_files(services, [file], backbone, lambda done, total: None)
    if not read:
        raise ConfigError(f"{file} cannot be read: {unreadable[file]}")
    return predictor.look_alikes.shown(project, vectors[0], backbone, k=k)


def _embed_files(
    services: Services, files: Sequence[Path], backbone: str, advance: Callable[[int, int], None]
) -> tuple[list[Path], NDArray[np.float32], dict[Path, str]]:
    embedder = services.embedder(backbone)

    def read(file: Path) -> NDArray[np.uint8] | str:
        try:
            image = decode_image(file.read_bytes(), max_pixels=services.settings.max_image_pixels)
            return prepare_image(image, embedder.size)
        except OSError as error:
            return error.strerror or str(error)
        except TaxonomistError as error:
            return str(error)

    done: list[Path] = []
    parts: list[NDArray[np.float32]] = []
    unreadable: dict[Path, str] = {}
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            pictures = []
            for file, picture in zip(batch, readers.map(read, batch), strict=True):
                if isinstance(picture, str):
                    unreadable[file] = picture
                else:
                    done.append(file)
                    pictures.append(picture)
            if pictures:
                parts.append(embedder.embed(np.stack(pictures)))
            advance(min(start + BATCH, len(files)), len(files))
    return done, np.concatenate(parts) if parts else np.empty((0, 0), np.float32), unreadable


def _answers(
    model: ServingModel, tree: Tree, vectors: NDArray[np.float32]
) -> tuple[list[TaxonomyPath | None], list[Suggestion | None]]:
    calibration = model.calibrations[tree.control]
    rows = model.probabilities(vectors)[tree.control]
    paths: list[TaxonomyPath | None] = [tree.paths[greedy_path(tree, row)[-1]] for row in rows]
    return paths, [suggest(tree, row, calibration) for row in rows]


def _suggested(
    level: int, truths: Sequence[Sequence[TaxonomyPath]], suggestions: Sequence[Suggestion | None]
) -> dict[str, float | None]:
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
