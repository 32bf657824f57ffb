"""A training teaches the look-alikes of its project: from the products of the home, without those of any test part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from taxonomist.backend.prediction.champions import Champions
from taxonomist.backend.prediction.look_alikes import LookAlikes
from taxonomist.backend.retraining import look_alike_products, training_job
from taxonomist.backend.retraining.look_alike_products import TaughtByProducts, learn_from_products
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.heads.features import Array
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels, image_id
from taxonomist.taxonomy.groups.projection import ProductScatter
from taxonomist.training import product_space
from taxonomist.training.heads.data.dataset import Example, SplitExamples
from taxonomist.training.heads.export.export_model import export_model
from taxonomist.training.look_alike_projection import ProductVectors
from taxonomist.training.product_space import SHARES
from tests.small_world import CONFIG, PATHS, publish_backbone

IMAGES, PRODUCTS = 4, 110


@pytest.fixture
def home(services: Services) -> Services:
    """Project "7" with embedded and labelled images of products, whose images differ by 24 numbers of noise."""
    services.projects.update("7", label_config=CONFIG)
    publish_backbone(services)
    random = np.random.default_rng(0)
    means = random.normal(0, 1, (PRODUCTS, 48))
    means[:, :24] = 0
    documents: dict[str, ImageDocument] = {}
    for number, mean in enumerate(means):
        path = PATHS[int(mean[24] > 0) * 2 + int(mean[25] > 0)]
        documents |= {made.id: made for made in (document(f"p{number}", view, path) for view in range(IMAGES))}
        x = mean + np.concatenate([random.normal(0, 2, (IMAGES, 24)), random.normal(0, 0.1, (IMAGES, 24))], axis=1)
        ids = [image_id(f"made/p{number}-{view}.jpg") for view in range(IMAGES)]
        services.embeddings("v1").append(ids, (np.sign(x) * x**2).astype(np.float32))
    services.catalog.update_many(dict.fromkeys(documents, lambda blank: documents[blank.id]))
    return services


def document(product: str, view: int, path: tuple[str, ...], project: str = "7") -> ImageDocument:
    uri = f"made/{product}-{view}.jpg"
    labels = ProjectLabels(uri=uri, group=product, accepted={"colour": [list(path)]})
    return ImageDocument(id=image_id(uri), uri_orig=uri, projects={project: labels})


def silent(step: str, share: float) -> None: ...


def test_a_version_compares_look_alikes_in_the_space_that_helps(home: Services) -> None:
    before = same_product(home)
    train(home, "7", silent)
    version = home.registry.get(registry_name("7"), "v1")
    figures = version.head_manifest.look_alikes
    assert figures is not None
    assert figures.served
    assert same_product(home) > before + 0.2
    assert f"learned from {figures.images} images" in (version.path / "report.md").read_text()


def test_a_version_without_a_projection_compares_embeddings_as_they_are(
    home: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = same_product(home)
    monkeypatch.setattr(training_job, "learn_from_products", lambda *_, **__: TaughtByProducts())
    train(home, "7", silent)
    assert home.registry.champion(registry_name("7")) == "v1"
    assert same_product(home) == before


def same_product(services: Services) -> float:
    """Return the share of images whose first look-alike shows the same product."""
    look_alikes, store = LookAlikes(services, Champions(services)), services.embeddings("v1")
    names = {image_id(f"made/p{number}-{view}.jpg"): number for number in range(PRODUCTS) for view in range(IMAGES)}
    some = list(names)[::7]
    vectors = store.get(some)[1]
    hits = [look_alikes.nearest("7", x, "v1", k=1, exclude=id) for id, x in zip(some, vectors, strict=True)]
    return float(np.mean([names[hit.image_id] == names[id] for id, (hit,) in zip(some, hits, strict=True)]))


def test_products_of_test_parts_teach_nothing_and_those_of_the_project_judge(
    home: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Project "8" knows one of its products by another name, and has tested another."""
    seen: dict[str, list[str]] = {}

    def scatter(batches: Iterable[tuple[Array, Sequence[str]]]) -> ProductScatter | None:
        parts = list(batches)
        name = ("teach", "teach the head", *map(str, range(SHARES)))[len(seen)]
        seen[name] = [product for _, products in parts for product in products]
        return product_space.scatter_of(parts)

    def fit(_taught: ProductScatter | None, held_out: ProductVectors, labelled: ProductVectors) -> None:
        seen["held out"] = list(held_out.products)
        assert len(labelled.embeddings) == len(seen["teach"])

    documents = {found.projects["7"].uri: found for found in home.catalog.documents("7")}

    def change(uri: str, project: str, **values: object) -> None:
        found = documents[uri]
        labels = found.projects["7"].model_copy(update=values)
        home.catalog.put(found.in_project(project, labels))

    change("made/p1-0.jpg", "7", part="test")
    change("made/p2-0.jpg", "8", group="eight-2", part="test")
    home.catalog.put(document("eight-2", 0, PATHS[0], "8"))
    home.embeddings("v1").append([image_id("made/eight-2-0.jpg")], np.ones((1, 48), np.float32))
    monkeypatch.setattr(look_alike_products, "scatter_of", scatter)
    monkeypatch.setattr(look_alike_products, "fit_look_alikes", fit)
    examples = [
        Example(id=found.id, labels={"colour": (PATHS[0],)}, group=found.product("7"))
        for found in home.catalog.documents("7")
    ]
    split = SplitExamples(tuple(examples), {}, {})
    found = learn_from_products(home, "7", split, home.embeddings("v1"), for_head=True)
    taught, judged = set(seen["teach"]), set(seen["held out"])
    assert not taught & judged
    assert len(taught | judged) == PRODUCTS
    assert 0.1 * PRODUCTS < len(judged) < 0.35 * PRODUCTS
    assert {"7\0p1", "7\0p2"} <= judged
    assert "eight" not in "".join(taught | judged)
    assert len(seen["teach"]) + len(seen["held out"]) == PRODUCTS * IMAGES  # the image that only "8" has is in neither
    # The head's space is judged by labels, so all products teach it that are not tested.
    head = set(seen["teach"]) | set(seen["teach the head"])
    assert head == taught | judged - {"7\0p1", "7\0p2"}
    assert found.space is not None
    assert (found.space.products, found.space.images) == (PRODUCTS - 2, (PRODUCTS - 2) * IMAGES)
    for share in range(SHARES):
        assert set(seen[str(share)]) == {
            product for product in head if found.space.shares[product.removeprefix("7\0")] == share
        }


def test_copies_of_tested_files_teach_nothing(home: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = {found.projects["7"].uri: found for found in home.catalog.documents("7")}
    tested = documents["made/p1-0.jpg"].projects["7"].model_copy(update={"part": "test"})
    copies = [documents["made/p1-0.jpg"].in_project("7", tested), documents["made/p2-0.jpg"]]
    for document in copies:
        home.catalog.put(document.model_copy(update={"file_hash": "the same"}))
    examples = [Example(found.id, {"colour": (PATHS[0],)}, found.product("7")) for found in home.catalog.documents("7")]
    found = learn_from_products(
        home, "7", SplitExamples(tuple(examples), {}, {}), home.embeddings("v1"), for_head=True
    ).space
    assert found is not None
    assert (found.products, found.images) == (PRODUCTS - 1, (PRODUCTS - 1) * IMAGES - 1)


def test_a_head_learns_in_the_space_and_is_exported_with_it(home: Services, tmp_path: Path) -> None:
    train(home, "7", silent)
    version = home.registry.get(registry_name("7"), "v1")
    figures = version.head_manifest.spaces["colour"]
    assert figures.served
    assert figures.dimension == 48
    look_alikes = version.head_manifest.look_alikes
    assert look_alikes is not None
    assert figures.products > look_alikes.products
    backbone = home.backbone()
    assert backbone is not None
    export_model(version, backbone, tmp_path / "exported")  # compares the graph with what is served
    card = (tmp_path / "exported" / "README.md").read_text()
    assert f"a space of 48 numbers learned from {figures.images} images of {figures.products} products" in card


def test_a_head_of_layers_needs_no_space(home: Services) -> None:
    examples = [Example(found.id, {"colour": (PATHS[0],)}, found.product("7")) for found in home.catalog.documents("7")]
    split = SplitExamples(tuple(examples), {}, {})
    found = learn_from_products(home, "7", split, home.embeddings("v1"), for_head=False)
    assert (found.space, found.look_alikes is not None) == (None, True)


def test_labels_of_too_few_products_are_no_reason_to_read_the_others(
    home: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(home.catalog, "documents", never)
    few = [Example(str(number), {"colour": (PATHS[0],)}, f"p{number}") for number in range(19)]
    split = SplitExamples(tuple(few), {}, {})
    assert learn_from_products(home, "7", split, home.embeddings("v1"), for_head=True) == TaughtByProducts()
