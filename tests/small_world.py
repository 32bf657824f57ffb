"""A small world for tests: coloured images, their taxonomy, and a backbone that averages pixels. All of it is real
code; only the network is small, so that a test takes a second instead of a minute."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper
from PIL import Image

from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.label_config import parse_label_config
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.promotion.champion import Predictions
from taxonomist.training.heads.report.outcomes import OUTCOMES_FILE, ImageOutcome, outcomes_record
from taxonomist.training.heads.report.version_files import write_data

SIZE = 32
GRID = 4
COLOURS: dict[tuple[str, ...], tuple[int, int, int]] = {
    ("Warm", "Red"): (220, 30, 30),
    ("Warm", "Yellow"): (230, 210, 40),
    ("Cold", "Blue"): (30, 50, 220),
    ("Cold", "Green"): (30, 170, 60),
}
PATHS = tuple(COLOURS)
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Taxonomy name="colour" toName="image">
    <Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
    <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice>
  </Taxonomy>
</View>"""


def image_bytes(path: tuple[str, ...], seed: int, size: int = 48) -> bytes:
    """Return a JPEG in the path's colour, with noise."""
    noise = np.random.default_rng(seed).normal(0, 18, (size, size, 3))
    pixels = np.clip(np.array(COLOURS[path]) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def write_catalogue(folder: Path, count: int, *, annotators: Sequence[str] = (), first: int = 0) -> Path:
    """Write `count` images in alternating colours, each a product, and their manifest; return the manifest."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "level1", "level2", "product"] + (["annotator"] if annotators else []))
        for number in range(first, first + count):
            path = PATHS[number % len(PATHS)]
            name = f"{number:04d}.jpg"
            (folder / "images" / name).write_bytes(image_bytes(path, number))
            for annotator in annotators or [""]:
                rows.writerow([name, *path, f"p{number}"] + ([annotator] if annotator else []))
    return folder / "manifest.csv"


def publish_backbone(services: Services, *, promote: bool = True) -> ModelVersion:
    """Publish and promote a backbone whose embedding is the mean colour of each cell of a grid: 48 numbers."""
    step = SIZE // GRID
    nodes = [
        helper.make_node("AveragePool", ["channels"], ["cells"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Flatten", ["cells"], ["embedding"]),
    ]
    return _publish(services, "mean colours", nodes, 3 * GRID * GRID, promote)


def publish_poor_backbone(services: Services, *, promote: bool = True) -> ModelVersion:
    """Publish and promote a backbone whose embedding is the brightness of an image: one number."""
    nodes = [
        helper.make_node("Flatten", ["channels"], ["all"]),
        helper.make_node("ReduceMean", ["all"], ["embedding"], axes=[1], keepdims=1),
    ]
    return _publish(services, "brightness", nodes, 1, promote)


def publish_promise(services: Services, project: str, *, target: float, threshold: float) -> ModelVersion:
    """Publish and promote a version of a model that promises a precision for the control `colour`, without weights."""
    calibration = Calibration(1.0, (threshold, threshold), target, (40, 40))
    tree = next(iter(parse_label_config(CONFIG).trees))
    name = registry_name(project)
    with services.registry.stage(name) as folder:
        (folder / "notes.txt").write_text("a promise")
        manifest = {
            "kind": "head",
            "backbone": "v1",
            "trees": [tree.to_json()],
            "calibration": {"colour": calibration.to_json()},
        }
        version = services.registry.publish(name, folder, manifest)
    services.registry.promote(name, version.version)
    return version


def publish_outcomes(
    services: Services,
    project: str,
    outcomes: Sequence[ImageOutcome],
    paths: Sequence[TaxonomyPath] = (),
    *,
    threshold: float = 0.5,
) -> ModelVersion:
    """Publish and promote a version that keeps these outcomes for the control `colour`, without weights.

    `paths` are the nodes that it knows, by default those of `CONFIG`.
    """
    tree = next(iter(parse_label_config(CONFIG).trees))
    tree = replace(tree, paths=tuple(paths) or tree.paths)
    calibration = Calibration(1.0, (threshold,) * tree.depth, 0.9, (40,) * tree.depth)
    examples = [Example(outcome.image_id, {"colour": outcome.labels}) for outcome in outcomes]
    scores = np.full((len(outcomes), len(tree)), -np.inf)
    for row, outcome in enumerate(outcomes):
        nodes = [tree.index[node] for node in prefixes(outcome.likeliest)]
        scores[row, nodes] = np.log(outcome.probabilities)
    predicted = {"colour": Predictions(tuple(outcome.likeliest for outcome in outcomes), tree.paths, scores)}
    name, images = registry_name(project), len(outcomes)
    with services.registry.stage(name) as folder:
        write_data(folder / OUTCOMES_FILE, outcomes_record([tree], examples, predicted))
        manifest = {
            "kind": "head",
            "backbone": "v1",
            "trees": [tree.to_json()],
            "calibration": {"colour": calibration.to_json()},
            "tested": {"images": images, "products": images, "labelled": 5 * images, "without_product": 0},
        }
        version = services.registry.publish(name, folder, manifest)
    services.registry.promote(name, version.version)
    return version


def _publish(services: Services, name: str, nodes: list[NodeProto], dimension: int, promote: bool) -> ModelVersion:
    before = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        [*before, *nodes],
        name.replace(" ", "-"),
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dimension])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with services.registry.stage(BACKBONE) as folder:
        onnx.save(model, str(folder / "backbone.onnx"))
        manifest = {"kind": "backbone", "size": SIZE, "dimension": dimension, "architecture": name}
        version = services.registry.publish(BACKBONE, folder, manifest)
    if promote:
        services.registry.promote(BACKBONE, version.version)
    return version
