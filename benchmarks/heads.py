"""Training the head on n labels, beside two other ways to use the same labels.

The fair peer is scikit-learn's LogisticRegression on the same vectors, a flat softmax over the leaves: the first thing
to write for a set of embeddings. A backend on label-studio-ml has no embeddings: its `fit` reads the images in each
epoch. The cost of an image in such an epoch is measured on some images. The table shows it beside the cost of an image
in an epoch of ours, and the cost of an embedding, which is paid once for the image and for each of its views.

The vectors are synthetic: each node of the demo's taxonomy has a centre, and an image lies around the centres on its
path, so that both methods get about as many right as on real images. Neither time depends on the vectors' meaning. No
product is known, so no head learns in a space that products have taught.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.peer import network, train_epoch
from benchmarks.world import World
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.storage.catalog.documents import image_id
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.training.heads.data.view_embeddings import fill_embeddings, view_id
from taxonomist.training.heads.head import HeadOptions, threads_for

PROJECT = "7"
DIMENSION = 512
FACTORS = 32  # dimensions of the noise: equal noise in all 512 directions would average out
NOISE = 2.2  # standard deviation around the centres, which have 1 at each level
STAMP = "2026-01-01T00:00:00Z"


@dataclass
class HeadWorld:
    """A project with n labelled images whose embeddings, views included, are in the store; copied for each training."""

    world: World
    labels: int
    dimension: int = DIMENSION

    @property
    def folder(self) -> Path:
        return self.world.folder / f"heads-{self.labels}"

    @cached_property
    def chosen(self) -> tuple[TaxonomyPath, ...]:
        """Return the path of each image, drawn with the frequencies of the catalogue."""
        rows = self.world.paths
        return tuple(rows[index] for index in np.random.default_rng(1).integers(0, len(rows), self.labels))

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """Return the synthetic embeddings (n, dimension)."""
        random = np.random.default_rng(2)
        centres: dict[TaxonomyPath, NDArray[np.float64]] = {}
        for path in sorted(set(self.world.paths)):
            for node in prefixes(path):
                if node not in centres:
                    centres[node] = random.normal(0, 1, FACTORS)
        means = np.stack([np.sum([centres[node] for node in prefixes(path)], axis=0) for path in self.chosen])
        hidden = means + random.normal(0, NOISE, means.shape)
        shown = hidden @ random.normal(0, 1, (FACTORS, self.dimension)) / np.sqrt(FACTORS)
        vectors: NDArray[np.float32] = np.maximum(shown + random.normal(0, 0.5, shown.shape), 0).astype(np.float32)
        return vectors

    @property
    def uris(self) -> list[str]:
        return [f"made/{number:06d}.jpg" for number in range(self.labels)]

    def make(self) -> None:
        """Import the labels as an export of Label Studio, and put the embeddings into the store."""
        self.folder.mkdir()
        services = Services(self._settings(self.folder / "home"))
        shutil.copytree(self.world.home / "models" / BACKBONE, self.folder / "home" / "models" / BACKBONE)
        services.registry.promote(BACKBONE, services.registry.versions(BACKBONE)[-1].version)
        config, export = self.folder / "config.xml", self.folder / "export.json"
        config.write_text(self.world.config, encoding="utf-8")
        export.write_text(json.dumps([_task(*row) for row in enumerate(zip(self.uris, self.chosen, strict=True))]))
        import_export(services, export, project=PROJECT, config=config)
        backbone = services.backbone()
        assert backbone is not None
        store, random = services.embeddings(backbone.version), np.random.default_rng(3)
        ids = [image_id(uri) for uri in self.uris]
        for number in range(services.settings.views + 1):
            shifted = self.vectors + random.normal(0, 0.3, self.vectors.shape) * (number > 0)
            store.append([view_id(id, number) if number else id for id in ids], shifted.astype(np.float32))

    def _settings(self, home: Path, head: Literal["lda", "mlp"] = "mlp") -> Settings:
        return Settings(home=home, image_size=self.world.size, head=head)

    def ours(self, head: Literal["lda", "mlp"]) -> dict[str, float]:
        """Measure a whole training job: from the catalogue to the published version with its report and plots."""
        home = self.folder / "running"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.folder / "home", home)
        services = Services(self._settings(home, head))
        marks: list[tuple[str, float]] = []

        def progress(stage: str, _share: float) -> None:
            if not marks or marks[-1][0] != stage:
                marks.append((stage, time.perf_counter()))

        began = time.perf_counter()
        train(services, PROJECT, progress)
        seconds = time.perf_counter() - began
        marks.append(("end", began + seconds))
        stages = {stage: after - at for (stage, at), (_, after) in pairwise(marks)}
        version = services.registry.versions(registry_name(PROJECT))[-1]
        (metrics,) = version.head_manifest.metrics.values()
        return {
            "seconds": seconds,
            "reading_s": seconds - sum(stages.get(stage, 0.0) for stage in ("training", "evaluating", "publishing")),
            "optimising_s": stages.get("training", 0.0),
            "report_s": stages.get("publishing", 0.0),
            "accuracy": metrics.levels[-1].accuracy,
            "epochs": _epochs(version.path / "curves.json"),
        }

    def logistic(self) -> dict[str, float]:
        """Measure fit and accuracy of LogisticRegression on the same images as ours; it needs no validation part."""
        classes = {path: number for number, path in enumerate(sorted(set(self.chosen)))}
        y = np.array([classes[path] for path in self.chosen])
        test = self._test_part()
        began = time.perf_counter()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(self.vectors[~test], y[~test])
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "accuracy": float(model.score(self.vectors[test], y[test]))}

    def pixels(self, count: int) -> dict[str, float]:
        """Return the seconds for an image of an epoch that reads pixels, measured on `count` images."""
        classes = {path: number for number, path in enumerate(sorted(set(self.world.paths)))}
        files = [self.world.images / name for name in self.world.names[:count]]
        targets = [classes[self.world.paths[index % len(self.world.paths)]] for index in range(len(files))]
        model = network(len(classes)).train()
        train_epoch(model, files[:8], targets[:8], self.world.size)
        began = time.perf_counter()
        train_epoch(model, files, targets, self.world.size)
        return {"epoch_s_per_image": (time.perf_counter() - began) / len(files)}

    def embedding(self, count: int) -> dict[str, float]:
        """Return the seconds for an embedding when training embeds `count` images and their views."""
        settings = self._settings(self.world.home)
        backbone = Services(settings).backbone()
        assert backbone is not None
        folder = self.folder / "embeddings"
        shutil.rmtree(folder, ignore_errors=True)
        names = self.world.names[:count]

        def read(name: str) -> NDArray[np.uint8]:
            return prepare_image((self.world.images / name).read_bytes(), self.world.size)

        began = time.perf_counter()
        fill_embeddings(
            names,
            [settings.views] * len(names),
            FolderEmbeddings(folder, dimension=DIMENSION),
            read,
            lambda: Embedder(backbone.path / BACKBONE_FILE, threads=threads_for(HeadOptions())),
            lambda _share: None,
        )
        return {"s_per_embedding": (time.perf_counter() - began) / (len(names) * (settings.views + 1))}

    @property
    def learned_from(self) -> float:
        """Return the number of images that are not in the test part."""
        return self.labels * (1 - self._settings(self.folder).test_share)

    def _test_part(self) -> NDArray[np.bool_]:
        services = Services(self._settings(self.folder / "running"))
        parts = {document.id: document.projects[PROJECT].part for document in services.catalog.documents(PROJECT)}
        return np.array([parts[image_id(uri)] == "test" for uri in self.uris])


def _epochs(curves: Path) -> int:
    return len(json.loads(curves.read_text(encoding="utf-8"))["epochs"]) if curves.exists() else 0


def _task(number: int, labelled: tuple[str, Sequence[str]]) -> dict[str, object]:
    uri, path = labelled
    region = {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [list(path)]}}
    annotation = {
        "id": number,
        "completed_by": 1,
        "ground_truth": True,  # one annotator decides
        "was_cancelled": False,
        "created_at": STAMP,
        "updated_at": STAMP,
        "result": [region],
    }
    return {"id": number, "data": {"image": uri}, "created_at": STAMP, "annotations": [annotation]}


def warm_up() -> None:
    """Start the threads of torch and scikit-learn before anything is timed."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    LogisticRegression().fit(np.eye(4), np.array([0, 1, 0, 1]))
