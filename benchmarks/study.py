"""The thesis' study on a catalogue: `python -m benchmarks.study --help`.

Test images are of the quarter of the products that no pre-training of `benchmarks.long_run` and `benchmarks.recipes`
has seen, and that teaches no projection.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue import read_catalogue
from benchmarks.long_run import SIZE as RESNET_SIZE
from benchmarks.measure import machine
from benchmarks.starter import LITE0
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.heads.features import features
from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.inference.starter import FOLDER as STARTER
from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.backbones.export import export_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.backbones.weights import load_weights, read_weights
from taxonomist.training.look_alike_projection import DIMENSION
from taxonomist.training.study.contestants import Contestant, at_size, pixels, resnet
from taxonomist.training.study.labelled_images import Images, LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.run import run_study
from taxonomist.training.study.split import held_out_groups

_SIZE = 160  # of the images that contestants resize to their own size
_BATCH = 256
STARTER_NAME = "starter (Lite0, int8)"
NOTE = (
    "The images are rendered catalogue products, not photographs. Level 1 is the room of a product, not its shape, "
    "which is hard for any model. The thesis' figures come from other images; its table 6.3 gives an overall F1 of "
    "0.72, while its rows have a mean of 0.60."
)


def read_labelled(catalogue: Path, cache: Path) -> LabelledImages:
    """Return all images of a catalogue with their paths, products and file hashes."""
    with (catalogue / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups = [row["product"] for row in rows]
    levels = sorted(name for name in rows[0] if name.startswith("level"))
    folder = catalogue / "images" if (catalogue / "images").is_dir() else catalogue
    return LabelledImages(
        [row["file"] for row in rows],
        read_catalogue(catalogue, _SIZE, cache).images,
        [tuple(row[level] for level in levels if row[level]) for row in rows],
        groups,
        held_out_groups(set(groups)),
        hashes=[hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() for row in rows],
    )


def served(name: str, file: Path) -> Contestant:
    """Return a backbone's ONNX file as it is served."""
    embedder = Embedder(file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:12]

    def embed(images: Images) -> NDArray[np.float32]:
        return embedder.embed(at_size(images, embedder.size))

    return Contestant(name, f"ONNX file {checksum} at {embedder.size} pixels", embed)


def projected(contestant: Contestant, labelled: LabelledImages) -> Contestant:
    """Return a contestant in the space that look-alikes are compared in: linear discriminant analysis on products.

    All images of the products that are not held out teach it, without labels.
    """
    teach = np.flatnonzero([group not in labelled.held_out for group in labelled.groups])

    @cache
    def projection() -> LookAlikeProjection:
        batches = (teach[start : start + _BATCH] for start in range(0, len(teach), _BATCH))
        x = np.concatenate([contestant.embed(labelled.images[rows]) for rows in batches])
        scatter = ProductScatter.of(features(x), np.array(labelled.groups)[teach])
        return LookAlikeProjection.of_scatter(scatter, discriminants(scatter, DIMENSION))

    def embed(images: Images) -> NDArray[np.float32]:
        return projection().of(contestant.embed(images))

    origin = f"{contestant.origin}, LDA on products, {DIMENSION} numbers, from {len(teach):,} images"
    return Contestant(f"{contestant.name}, projected", origin, embed)


def exported(weights: Path, folder: Path) -> Path:
    """Return EfficientNet-Lite0 with the weights of a pre-training as ONNX in float32, as it would be published."""
    module = Backbone(LITE0)
    load_weights(module.encoder, read_weights(weights))
    folder.mkdir(parents=True, exist_ok=True)
    export_backbone(module, folder, _SIZE)
    return folder / BACKBONE_FILE


def _describe(name: str, weights: Path) -> list[str]:
    """Return what is known of a pre-training that has ended; of another one `--note` says it."""
    if not (path := weights.parent / "summary.json").exists():
        return []
    summary = json.loads(path.read_text())
    recipe = summary["recipe"]
    return [
        f"Pre-training of *{name}*: {summary['seen']:,} images seen ({summary['data']['count']:,} different ones, of "
        f"{recipe['served']} pixels, in views of {recipe['size']}), the best moment at {summary['best_seen']:,}; "
        f"{summary['seconds'] / 60:.0f} minutes of steps on {summary['device']}, {summary['precision']}."
    ]


def main() -> None:
    """Run the study; results of former calls are kept."""
    parser = argparse.ArgumentParser("python -m benchmarks.study", description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--thesis", type=Path, help="best.safetensors of `benchmarks.long_run`")
    parser.add_argument("--former-starter", type=Path, help="folder with the backbone.onnx of the former starter")
    parser.add_argument("--pretrained", type=Path, help="EfficientNet-Lite0's weights of a pre-training")
    parser.add_argument("--note", action="append", default=[], help="a paragraph of the report; repeatable")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", action="append", help="contestants by name, instead of all")
    parser.add_argument("--folder", type=Path, default=Path(".study/study"))
    parser.add_argument("--cache", type=Path, default=Path(".study/recipes"))
    arguments = parser.parse_args()
    labelled = read_labelled(arguments.catalogue, arguments.cache)
    about = machine()
    notes = [NOTE, f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, {about['date']}."]
    entries = [pixels(), resnet(BackboneSpec(weights="random", size=RESNET_SIZE), "random ResNet18")]
    if arguments.thesis:
        learned = resnet(BackboneSpec(weights=str(arguments.thesis), size=RESNET_SIZE), "thesis' recipe (MoCo v2)")
        checksum = hashlib.sha256(arguments.thesis.read_bytes()).hexdigest()[:12]
        entries.append(replace(learned, origin=f"{learned.origin}, {checksum}"))
        notes += _describe(learned.name, arguments.thesis)
    if arguments.former_starter:
        entries.append(served("former starter (ResNet18, int8)", arguments.former_starter / BACKBONE_FILE))
    starter = served(STARTER_NAME, STARTER / BACKBONE_FILE)
    entries += [starter, projected(starter, labelled)]
    if arguments.pretrained:
        file = exported(arguments.pretrained, arguments.folder / "pretrained")
        entries.append(served("Lite0 pre-trained on products (fp32)", file))
    contestants = [
        contestant
        for entry in entries
        if not arguments.only or entry.name in arguments.only
        for contestant in (entry, replace(entry, name=f"{entry.name}, oversampled", oversample=True))
    ]
    began = time.monotonic()
    done = run_study(
        labelled,
        contestants,
        StudyOptions(seeds=arguments.seeds),
        arguments.folder,
        lambda stage, share: print(f"{time.monotonic() - began:6.0f} s {share:4.0%} {stage}", flush=True),
        notes=[*notes, *arguments.note],
        base=next((contestant.name for contestant in contestants if contestant.name == STARTER_NAME), None),
    )
    print(done.report)


if __name__ == "__main__":
    main()
