"""The data of both servers: images, the taxonomy, and a model each. Made once a run, before anything is timed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.paths import TaxonomyPath

PROJECT = "furniture"
CATALOGUE = Path(__file__).resolve().parents[1] / "backend" / "demo" / "catalogue"


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 3
    size: int = 160  # side of the images, in pixels
    labelled: int | None = None  # images of the catalogue that the served model is trained on; None: all
    requests: int = 60  # of one task each, for latency
    tasks: int = 1200  # in one request
    webhooks: int = 1000
    clients: int = 32
    pressed: int = 2000  # webhooks under pressure
    slow_clients: int = 200  # silent ones, and as many that trickle
    bombers: int = 16
    bomb_pixels: int = 8_000  # side of an image that is small as a file
    bomb_body: int = 64 * 1024 * 1024  # bytes
    bomb_packed: int = 2_000_000_000  # bytes of an answer that is unpacked twice
    labels: tuple[int, ...] = (1_000, 10_000)
    pixels: int = 256  # images of the pixel-reading epoch
    starts: int = 5


QUICK = Scale(1, 64, 120, 4, 24, 40, 8, 40, 10, 4, 500, 1_000_000, 10_000_000, (200,), 16, 1)


@dataclass(frozen=True)
class Earlier:
    """An earlier checkout of this project: its home, its module with the command line, its import paths."""

    home: Path
    module: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """The files of a run under `folder`.

    `names` are the image files, the last one for warming up; `paths` is the taxonomy path of each row of the catalogue.
    """

    folder: Path
    size: int
    config: str
    names: tuple[str, ...]
    paths: tuple[TaxonomyPath, ...]
    earlier: Earlier | None = None

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def home(self) -> Path:
        """Return the folder of our state: the backbone and a champion trained on the catalogue."""
        return self.folder / "home"

    @property
    def peer(self) -> Path:
        """Return the folder of the peer's state: the weights of its network and its classes."""
        return self.folder / "peer"


def make_world(folder: Path, scale: Scale, earlier: Path | None = None) -> World:
    """Make the data under the empty `folder`; about a minute for the whole catalogue.

    `earlier` is the folder of an earlier checkout, which makes the same data with its own code.
    """
    rows = _catalogue(scale.labelled)
    paths = tuple((row["level1"], row["level2"], row["level3"]) for row in rows)
    names = _write_images(folder / "images", [CATALOGUE / "images" / row["file"] for row in rows], scale.tasks + 1)
    config = _our_home(folder, rows, scale.size)
    _peer_folder(folder / "peer", sorted(set(paths)))
    return World(
        folder, scale.size, config, names, paths, _earlier(folder / "earlier", scale, earlier) if earlier else None
    )


def _catalogue(limit: int | None) -> list[dict[str, str]]:
    with (CATALOGUE / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:limit]


def _write_images(folder: Path, sources: Sequence[Path], count: int) -> tuple[str, ...]:
    """Write `count` different JPEGs and return their names: the sources, then turned and brightened copies."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = []
    for number in range(count):
        source = sources[number % len(sources)]
        name = f"{number:04d}.jpg"
        if number < len(sources):
            (folder / name).write_bytes(source.read_bytes())
        else:
            with Image.open(source) as image:
                turned = image.convert("RGB").rotate(float(random.uniform(-10, 10)), fillcolor="white")
                lit = ImageEnhance.Brightness(turned).enhance(float(random.uniform(0.8, 1.2)))
                lit.save(folder / name, "JPEG", quality=90)
        names.append(name)
    return tuple(names)


def _our_home(folder: Path, rows: Sequence[dict[str, str]], size: int) -> str:
    """Import and train as a user does; return the labelling config. The backbone's weights are random."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = Settings(home=folder / "home", backbone="resnet18", backbone_weights="random", image_size=size)
    services = Services(settings)
    import_manifest(services, manifest, PROJECT, images=CATALOGUE / "images")
    prepare_backbone(services)
    train(services, PROJECT, lambda step, share: None)
    return services.projects.get(PROJECT).label_config


_MAKE = """
import sys
from pathlib import Path
from benchmarks.world import Scale, make_world
make_world(Path(sys.argv[1]), Scale(size=int(sys.argv[2]), labelled=int(sys.argv[3]) or None, tasks=1))
"""


def _earlier(folder: Path, scale: Scale, checkout: Path) -> Earlier:
    checkout = checkout.resolve()  # the servers run in other folders
    paths = tuple(str(path) for path in (checkout / "src", checkout) if path.exists())
    module = "taxonomist" if (checkout / "src").exists() else "backend.cli"
    arguments = [str(folder), str(scale.size), str(scale.labelled or 0)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-c", _MAKE, *arguments], cwd=checkout, env=environment, check=True, stdout=sys.stderr
    )
    return Earlier(folder / "home", module, paths)


def _peer_folder(folder: Path, classes: Sequence[TaxonomyPath]) -> None:
    import torch

    from benchmarks.peer import network

    folder.mkdir()
    (folder / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    torch.save(network(len(classes)).state_dict(), folder / "model.pt")
