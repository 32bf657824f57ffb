"""Which products take no part in a pre-training, and what the held-out ones are for."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.pretraining.dataset import (
    RunData,
    _depth,
    _Image,
    build_probe,
    choose_images,
    is_held_out,
    read_data,
    write_data,
)
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store
from taxonomist.backend.pretraining.run import run
from taxonomist.backend.pretraining.state import (
    PretrainRequest,
    Run,
    StoppedError,
    pretraining_folder,
    read_run,
    write_run,
)
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.inference.embedder import Embedder
from taxonomist.inference.starter import WEIGHTS_FILE
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.training.backbones import architectures
from taxonomist.training.backbones.architectures import Architecture
from taxonomist.training.backbones.build import build_backbone
from taxonomist.training.backbones.spec import BackboneSpec
from taxonomist.training.pretraining import curves
from taxonomist.training.pretraining.batches import ImageSelection, RowIndices
from taxonomist.training.pretraining.probe import embed, held_out_score
from taxonomist.training.pretraining.recipe import PRESETS, Recipe
from tests.present import present
from tests.small_world import CONFIG, PATHS

SIZE, VIEWS = 32, 6
TRAINED, HELD_OUT, TESTED = 6, 5, 2  # products
NAMES = [f"product-{number}" for number in range(200)]
APART = [name for name in NAMES if is_held_out(name)][:HELD_OUT]
KNOWN = [name for name in NAMES if not is_held_out(name)][: TRAINED + TESTED]
TEST = KNOWN[TRAINED:]
_TINY = Architecture(
    "tiny",
    256,
    stem=("conv_stem", "bn1"),
    stages=tuple(f"blocks.{stage}" for stage in range(5)),
    end=("conv_head", "bn2", "global_pool"),
    classifier="classifier",
    library="timm",
    network="test_efficientnet",
)
_LONG = Recipe(
    architecture="tiny",
    size=24,
    served=SIZE,
    batch=16,
    epochs=100,
    queue=32,
    positives="group",
    head_norm=True,
    lr=0.1,
)


def _picture(random: np.random.Generator, pattern: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the pattern (4, 4, 3) of a product at another place, in other light."""
    shifted = np.roll(pattern, tuple(random.integers(-1, 2, 2)), (0, 1)).repeat(8, 0).repeat(8, 1)
    return np.clip(shifted * random.uniform(0.8, 1.2) + random.normal(0, 15, shifted.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """Six images of each product; two products are of the test part of project "7"."""
    monkeypatch.setitem(architectures._REGISTERED, "tiny", _TINY)
    monkeypatch.setitem(PRESETS, "long", _LONG)
    random = np.random.default_rng(0)
    folder = tmp_path / "catalogue"
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "level1", "level2", "product"])
        for number, product in enumerate([*APART, *KNOWN]):
            pattern = random.uniform(0, 255, (4, 4, 3))
            for view in range(VIEWS):
                Image.fromarray(_picture(random, pattern)).save(folder / f"{product}-{view}.png")
                rows.writerow([f"{product}-{view}.png", *PATHS[number % len(PATHS)], product])
    services = Services(Settings(home=tmp_path / "home"))
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, folder / "manifest.csv", "7")
    for document in list(services.catalog.documents()):
        services.catalog.update(document.id, _in_its_part)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield services
    torch.set_num_threads(threads)


def _in_its_part(document: ImageDocument) -> ImageDocument:
    part = "test" if document.product("7") in TEST else "train"
    return document.in_project("7", document.projects["7"].model_copy(update={"part": part}))


def _products(services: Services, ids: Iterable[str]) -> set[str | None]:
    return {present(services.catalog.get(id)).product("7") for id in ids}


def _scores(folder: Path) -> dict[int, float]:
    with (folder / "curves.csv").open() as file:
        return {int(row["step"]): float(row["score"]) for row in csv.DictReader(file) if row["score"]}


@pytest.mark.slow
def test_a_run_that_memorises_is_stopped_and_its_best_moment_is_served(
    catalogue: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[int] = set()  # rows of the store, as the loop reads them
    take = ImageSelection.take

    def watched(selection: ImageSelection, positions: RowIndices | int) -> NDArray[np.uint8]:
        read.update(np.atleast_1d(present(selection.rows)[positions]).tolist())
        return take(selection, positions)

    monkeypatch.setattr(ImageSelection, "take", watched)
    monkeypatch.setattr(curves, "_plot", lambda points, path: path.write_bytes(b""))  # it takes longer than the steps
    request = PretrainRequest(preset="long", weights="random", device="cpu", precision="32", adopt=False)
    outcome = run(catalogue, request, lambda step, share: None, lambda: False)
    store = prepared_image_store(catalogue, SIZE)
    ids = store.snapshot()[0]
    assert len(ids) == VIEWS * (TRAINED + HELD_OUT + TESTED)
    assert _products(catalogue, [ids[row] for row in read]) == set(KNOWN[:TRAINED])

    version = catalogue.registry.versions(BACKBONE)[-1]
    summary = present(version.backbone_manifest.pretraining)
    best_step, scores = present(summary.best_seen) // _LONG.batch, _scores(version.path)
    assert summary.stopped_early
    assert f"stopped early, after {summary.seen:,} images seen" in outcome
    assert best_step < max(scores) < 200
    assert scores[best_step] > scores[max(scores)]
    probe = present(build_probe(present(read_data(catalogue.settings.home)), store))
    module = build_backbone(BackboneSpec("tiny", weights=str(version.path / WEIGHTS_FILE), size=SIZE)).module
    vectors = embed(module.encoder, module.architecture, probe.images, torch.device("cpu"))
    assert held_out_score(vectors, probe) == pytest.approx(scores[best_step], abs=1e-6)
    served = Embedder(version.path / "backbone.onnx").embed(probe.images)
    np.testing.assert_allclose(served, vectors.numpy(), atol=1e-3 * float(vectors.abs().max()))


def test_the_held_out_products_are_kept_with_the_run(catalogue: Services) -> None:
    prepare_all(catalogue, SIZE)
    store = prepared_image_store(catalogue, SIZE)
    data = choose_images(catalogue, store, grouped=True)
    assert _products(catalogue, data.ids) == set(KNOWN[:TRAINED])
    assert (data.tested, data.held_out) == (VIEWS * TESTED, VIEWS * HELD_OUT)
    assert _products(catalogue, [image.id for image in data.probe if image.held_out]) == set(APART)
    write_data(catalogue.settings.home, data)
    assert read_data(catalogue.settings.home) == data


def test_another_name_of_a_tested_product_takes_no_part_either(catalogue: Services) -> None:
    prepare_all(catalogue, SIZE)
    one = next(document for document in catalogue.catalog.documents() if document.product("7") == KNOWN[0])
    catalogue.catalog.update(one.id, lambda old: old.model_copy(update={"servicereport_filename": TEST[0]}))
    data = choose_images(catalogue, prepared_image_store(catalogue, SIZE), grouped=False)
    assert one.id not in data.ids
    assert data.tested == VIEWS * TESTED + 1


def test_a_run_of_an_earlier_release_begins_again(catalogue: Services, caplog: pytest.LogCaptureFixture) -> None:
    home = catalogue.settings.home
    former = Run(preset="long", recipe=asdict(replace(_LONG, weights="random")), size=SIZE, step="pretrain")
    write_run(home, former)
    write_data(home, RunData(ids=["a"]))
    (pretraining_folder(home) / "run").mkdir()
    with pytest.raises(StoppedError):
        run(catalogue, PretrainRequest(device="cpu"), lambda step, share: None, lambda: True)
    assert "trained on products of test parts: it begins again" in caplog.text
    assert present(read_run(home)).step == "prepare"
    assert not (pretraining_folder(home) / "run").exists()


def test_the_probe_asks_at_the_deepest_level_whose_classes_have_two_products() -> None:
    def images(products: Iterable[int]) -> list[_Image]:
        return [
            _Image(f"{product}-{view}", None, frozenset(), ("AB"[product % 2], f"kind {product}"), False)
            for product in products
            for view in range(5)
        ]

    learning, asking = images(range(4)), images(range(4, 8))
    product_of = {image.id: image.id[0] for image in [*learning, *asking]}
    assert _depth(learning, asking, product_of) == 1  # each kind has one product
    same = [replace(image, label=(*image.label[:1], f"kind {image.label[0]}")) for image in [*learning, *asking]]
    assert _depth(same[:20], same[20:], product_of) == 2
    assert _depth(learning[:19], asking, product_of) == 0  # too few to learn from
