"""How long a training takes with n labels: `python -m benchmarks.retrain --help`.

The embeddings are synthetic, and as long as those of the starter, EfficientNet-Lite0. Each round measures the first
training of a project, and the next one after some labels have changed, from the catalogue to the published version
with its report. Processor time counts all threads.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.heads import PROJECT, HeadWorld, warm_up
from benchmarks.measure import Spread, machine
from benchmarks.world import World
from taxonomist.backend.demo.project import read_catalogue
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.label_config import write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath

PHASES = ("reading", "training", "evaluating", "publishing")
Seconds = tuple[float, float]  # of the clock, of the processor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.retrain", description=__doc__)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=50, help="labels that change before the second training")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    warm_up()
    with tempfile.TemporaryDirectory(prefix="taxonomist-retrain-") as folder:
        made = _make(Path(folder), options.labels)
        rounds = [_round(made, options.changed) for _ in range(options.rounds)]
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {about['date']}, {options.labels:,} labels\n")
    print("| | seconds | of the processor |\n| --- | ---: | ---: |")
    for name in rounds[0]:
        clock, processor = (Spread.of([seconds[name][of] for seconds in rounds]) for of in (0, 1))
        print(f"| {name} | {_text(clock)} | {_text(processor)} |")
    return 0


def _text(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}..{spread.high:.2f})"


def _make(folder: Path, labels: int) -> HeadWorld:
    paths = [image.path for image in read_catalogue()]
    settings = Settings(home=folder / "home", backbone_weights="starter")
    backbone = prepare_backbone(Services(settings))
    size = backbone.backbone_manifest.size
    world = World(
        folder, size, write_label_config(sorted(set(paths)), control="taxonomy", image="image"), (), tuple(paths)
    )
    made = HeadWorld(world, labels, backbone.backbone_manifest.dimension)
    made.make()
    return made


def _round(made: HeadWorld, changed: int) -> dict[str, Seconds]:
    home = made.folder / "running"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(made.folder / "home", home)
    services = Services(Settings(home=home, head="lda"))
    first = _measure(services)
    images = [document.id for document in services.catalog.documents(PROJECT, labelled=True)][:changed]
    services.catalog.update_many(dict.fromkeys(images, partial(_relabel, made.chosen[0])))
    again = _measure(services)
    return {f"{which}: {phase}": taken for which, all_ in (("first", first), ("again", again)) for phase, taken in all_}


def _relabel(path: TaxonomyPath, document: ImageDocument) -> ImageDocument:
    labels = document.projects[PROJECT]
    accepted = {control: [list(path)] for control in labels.accepted}
    return document.in_project(PROJECT, labels.model_copy(update={"accepted": accepted}))


def _measure(services: Services) -> list[tuple[str, Seconds]]:
    marks = [("reading", time.perf_counter(), time.process_time())]

    def progress(stage: str, _share: float) -> None:
        if stage in PHASES and stage != marks[-1][0]:
            marks.append((stage, time.perf_counter(), time.process_time()))

    train(services, PROJECT, progress, force=True)
    marks.append(("whole", time.perf_counter(), time.process_time()))
    (_, *began), (_, *ended) = marks[0], marks[-1]
    parts = [(phase, (after - at, cpu_after - cpu)) for (phase, at, cpu), (_, after, cpu_after) in pairwise(marks)]
    return [*parts, ("whole", (ended[0] - began[0], ended[1] - began[1]))]


if __name__ == "__main__":
    sys.exit(main())
