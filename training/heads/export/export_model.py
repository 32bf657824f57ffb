"""Writes a version as files that other programs can use."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.serving_model import ServingModel, load_serving_model
from taxonomist.storage.files import storage_errors
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import HeadManifest
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import ConfigError, DamagedError
from taxonomist.taxonomy.paths import NO_ANSWER
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.export.head_graph import INPUT_NAME, head_graph

HEAD_GRAPH_FILE, LABELS_FILE, CARD_FILE, EXAMPLE_FILE = "head.onnx", "labels.json", "README.md", "example.py"
_TOLERANCE = 1e-4  # of a probability
_COMPARED = 64  # random embeddings


def export_model(version: ModelVersion, backbone: ModelVersion, folder: Path) -> list[Path]:
    """Write a head's version and its backbone into a new or empty folder, and return the files.

    `backbone.onnx` takes images uint8 (n, size, size, 3) and gives embeddings (n, d); `head.onnx` turns these into
    probabilities of the nodes of each control. `labels.json` has the paths, the parents and the thresholds of the
    nodes, `README.md` says what the model is and what is promised, `example.py` uses it all without this project. The
    head is compared with the served one before anything else is written. Raises `ConfigError` for a folder with files,
    `StorageError` when it cannot be written, `DamagedError` when the version cannot be read or the graph differs.
    """
    model = load_serving_model(version)
    graph = head_graph(
        model.head, model.trees, {name: calibration.temperature for name, calibration in model.calibrations.items()}
    ).SerializeToString()
    _compare(graph, model, version)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"The folder {folder} is not empty.", hint="Name a new one with --output.")
        shutil.copyfile(backbone.path / BACKBONE_FILE, folder / BACKBONE_FILE)
        (folder / HEAD_GRAPH_FILE).write_bytes(graph)
        labels = json.dumps(_labels(version, backbone, model), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / LABELS_FILE).write_text(labels, encoding="utf-8")
        (folder / CARD_FILE).write_text(_card(version, backbone), encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name(EXAMPLE_FILE), folder / EXAMPLE_FILE)
    return [folder / name for name in (BACKBONE_FILE, HEAD_GRAPH_FILE, LABELS_FILE, EXAMPLE_FILE, CARD_FILE)]


def _compare(graph: bytes, model: ServingModel, version: ModelVersion) -> None:
    """Raise `DamagedError` where the graph gives other probabilities than the model that is served."""
    embeddings = np.random.default_rng(0).standard_normal((_COMPARED, model.head.dimension), np.float32)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {INPUT_NAME: embeddings})
    for (control, expected), probabilities in zip(model.probabilities(embeddings).items(), found, strict=True):
        difference = float(np.abs(probabilities - expected).max())
        if not difference <= _TOLERANCE:
            raise DamagedError(
                f"The exported head of {version.version} differs from the served one by {difference:.1e} in the "
                f"probabilities of {control}."
            )


def _labels(version: ModelVersion, backbone: ModelVersion, model: ServingModel) -> dict[str, Any]:
    return {
        "model": f"{version.name} {version.version}",
        "size": backbone.backbone_manifest.size,
        "controls": [
            {
                "name": control,
                "paths": [["no answer"] if path == NO_ANSWER else list(path) for path in tree.paths],
                "parents": tree.parents.tolist(),
                "thresholds": _thresholds(tree, model.calibrations[control]),
            }
            for control, tree in model.trees.items()
        ],
    }


def _thresholds(tree: Tree, calibration: Calibration) -> list[float | None]:
    """Return the lowest probability with which each node is suggested, None for one that never is."""
    found: list[float | None] = []
    for path, level, is_leaf in zip(tree.paths, tree.levels, tree.is_leaf, strict=True):
        threshold = calibration.thresholds[level - 1]
        is_never = path == NO_ANSWER or (tree.leafs_only and not is_leaf) or not math.isfinite(threshold)
        found.append(None if is_never else threshold)
    return found


def _card(version: ModelVersion, backbone: ModelVersion) -> str:
    manifest, eyes = version.head_manifest, backbone.backbone_manifest
    data, tested = manifest.data, manifest.tested
    lines = [
        f"# {version.name} {version.version}",
        "",
        "A classifier for images with a taxonomy: it suggests a path as deep as the model can be trusted.",
        "",
        "| | |",
        "| --- | --- |",
        f"| trained | {manifest.created_at or 'unknown'} |",
        f"| labelled images | {data.count if data else 'unknown'} |",
        f"| images for testing, from which nothing was learned | {tested.images if tested else 'unknown'} |",
        f"| backbone | {eyes.architecture}, images of {eyes.size} pixels, {eyes.dimension} values |",
        f"| origin of the backbone | {eyes.origin or 'unknown'} |",
        f"| caveats | {', '.join(manifest.caveats) or 'none'} |",
        "",
    ]
    for tree in manifest.trees:
        lines += _control_card(tree, manifest)
    lines += [
        "## Use",
        "",
        f"`{EXAMPLE_FILE}` prints the suggestions for image files. It needs numpy, onnxruntime and Pillow alone.",
        "",
        f"- `{BACKBONE_FILE}`: images, uint8 (n, {eyes.size}, {eyes.size}, 3), each whole and centred on white, to",
        f"  embeddings, float32 (n, {eyes.dimension}).",
        f"- `{HEAD_GRAPH_FILE}`: embeddings to the calibrated probabilities of the nodes of each control.",
        f"- `{LABELS_FILE}`: the controls and nodes in that order, with paths, parents and thresholds.",
        "",
        "## Limits",
        "",
        "The thresholds were fitted on images of the project: of its kinds of products, taken in its ways. For other",
        "images nothing is promised. Measure on your own before you rely on the suggestions.",
        "",
    ]
    return "\n".join(lines)


def _control_card(tree: Tree, manifest: HeadManifest) -> list[str]:
    calibration, metrics = manifest.calibration[tree.control], manifest.metrics.get(tree.control)
    lines = [
        f"## {tree.control}",
        "",
        f"{len(tree):,} nodes on {tree.depth} levels. The thresholds aim at suggestions that are right in "
        f"{calibration.target_precision:.0%} of the cases; they were fitted on images that the model had not seen.",
        "",
        "| level | suggested from a probability of | images that this rests on |",
        "| --- | --- | --- |",
    ]
    for level, (threshold, support) in enumerate(zip(calibration.thresholds, calibration.support, strict=True), 1):
        lines.append(f"| {level} | {f'{threshold:.2f}' if math.isfinite(threshold) else 'never'} | {support} |")
    if space := manifest.spaces.get(tree.control):
        lines += [
            "",
            f"The head was compared in a space of {space.dimension} numbers learned from {space.images} images of "
            f"{space.products} products, and has {'it' if space.served else 'none'}: the log-loss of labels by models "
            f"without their products was {space.log_loss[1]:.3f} in the space, {space.log_loss[0]:.3f} without it.",
        ]
    if metrics is not None:
        lines += ["", f"On the images for testing: hierarchical F1 {metrics.hierarchical_f1:.3f}"]
        lines[-1] += f", macro-F1 {metrics.macro_f1:.3f}."
    return [*lines, ""]
