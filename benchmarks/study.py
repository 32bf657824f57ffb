"""The thesis' study on a catalogue, with a pre-trained backbone: `python -m benchmarks.study --help`.

Test images are of the quarter of the products that `benchmarks.long_run` leaves out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue import read_catalogue
from benchmarks.measure import machine
from benchmarks.yardstick import LITE0, efficientnet_lite0
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.starter import FOLDER as STARTER
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.study.contestants import Contestant, at_size, pixels, resnet
from taxonomist.training.study.labelled_images import Images, LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.run import run_study
from taxonomist.training.study.split import held_out_groups

_SIZE = 160  # of the images that contestants resize to their own size
NOTES = [
    "The images are rendered catalogue products, not photographs. Level 1 is the room of a product, not its shape, "
    "which is hard for any model. The thesis' figures come from other images; its table 6.3 "
    "gives an overall F1 of 0.72, while its rows have a mean of 0.60.",
    "A run on a GPU: `taxonomist pretrain --preset default --device cuda` takes images of 160 pixels (77 KB each, "
    "0.5 GB for these, kept on the device) and views of 128 pixels, four times the area of the largest views here, for "
    "200 epochs: 1.4 million of these images seen; `--epochs` for more, while the neighbours' score still rises. "
    "It was not run; how long it takes and what it reaches are not known.",
]


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


def starter() -> Contestant:
    """Return the starter as it is served."""
    about = json.loads((STARTER / "starter.json").read_text())
    embedder = Embedder(STARTER / BACKBONE_FILE)
    checksum = hashlib.sha256((STARTER / BACKBONE_FILE).read_bytes()).hexdigest()[:12]

    def embed(images: Images) -> NDArray[np.float32]:
        return embedder.embed(at_size(images, about["size"]))

    return Contestant("starter (8-bit)", f"starter {checksum}", embed)


def _describe(name: str, weights: Path) -> str:
    summary = json.loads((weights.parent / "summary.json").read_text())
    return (
        f"Pre-training of *{name}*: {summary['seen']:,} images seen ({summary['data']['count']:,} different ones) in "
        f"{summary['seconds'] / 3600:.1f} hours of steps on {summary['device']}, {summary['precision']}."
    )


def main() -> None:
    """Run the study; results of former calls are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument(
        "--weights", type=Path, help="best.safetensors of a pre-training; its summary.json is beside it"
    )
    parser.add_argument(
        "--lite0", type=Path, help="best.safetensors of `long_run --lite0`; its summary.json is beside it"
    )
    parser.add_argument(
        "--fine-tune", type=int, default=0, help="blocks that are trained in copies of random weights and the starter"
    )
    parser.add_argument("--size", type=int, default=80, help="side of the images that ResNets are served, in pixels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", action="append", help="contestants by name, instead of all")
    parser.add_argument("--folder", type=Path, default=Path(".study/study"))
    parser.add_argument("--cache", type=Path, default=Path(".study/recipes"))
    arguments = parser.parse_args()
    labelled = read_labelled(arguments.catalogue, arguments.cache)
    random = resnet(BackboneSpec(weights="random", size=arguments.size), "random ResNet18")
    entries = [random, pixels()]
    about = machine()
    notes = [f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}, {about['date']}."]
    if arguments.weights:
        learned = resnet(BackboneSpec(weights=str(arguments.weights), size=arguments.size), "MoCo v2")
        checksum = hashlib.sha256(arguments.weights.read_bytes()).hexdigest()[:12]
        entries.append(replace(learned, origin=f"{learned.origin}, {checksum}"))
        notes += [_describe("MoCo v2", arguments.weights), *NOTES]
    entries.append(starter())
    entries.append(efficientnet_lite0(_SIZE))
    if arguments.lite0:
        entries.append(replace(small := efficientnet_lite0(arguments.size), name=f"{small.name}, small pictures"))
        entries.append(efficientnet_lite0(arguments.size, arguments.lite0))
        notes.append(_describe(entries[-1].name, arguments.lite0))
    if arguments.fine_tune:
        float_starter = resnet(BackboneSpec(LITE0, "starter", size=arguments.size), "starter")
        blocks = arguments.fine_tune
        entries += [float_starter]
        entries += [
            replace(contestant, name=f"{contestant.name}, {blocks} blocks fine-tuned", fine_tune=blocks)
            for contestant in (random, float_starter)
        ]
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
        notes=notes,
    )
    print(done.report)


if __name__ == "__main__":
    main()
