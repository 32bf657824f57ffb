"""The products of an export become known after the first model: the split, the comparison, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.registry import ModelVersion
from tests.backend.retraining.products import add_products
from tests.small_world import CONFIG, publish_backbone

pytestmark = pytest.mark.slow


def silent(step: str, share: float) -> None: ...


@pytest.fixture
def services(settings: Settings) -> Services:
    services = Services(settings.model_copy(update={"views": 1, "head_epochs": 3, "min_annotators": 1}))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    return services


def newest(services: Services) -> ModelVersion:
    return services.registry.versions("project-7")[-1]


def sides(services: Services) -> dict[str | None, set[str | None]]:
    """Return the parts in which the images of each product are."""
    found: dict[str | None, set[str | None]] = {}
    for document in services.catalog.documents("7"):
        labels = document.projects["7"]
        found.setdefault(labels.group, set()).add(labels.part)
    return found


def trained_products(version: ModelVersion) -> set[str]:
    data = json.loads((version.path / "data.json").read_text())
    return {image["product"] for image in data["images"] if image["part"] != "test"}


def test_products_become_known(services: Services, tmp_path: Path) -> None:
    add_products(services, tmp_path / "i", 0, 12)
    train(services, "7", silent)
    first = newest(services).head_manifest
    assert first.caveats == ("products unknown",)
    assert "Products unknown" in (newest(services).path / "report.md").read_text()

    change_settings(services, "7", ["product_field=sku"])
    add_products(services, tmp_path / "i", 12, 3)  # no version has learned from these
    said = train(services, "7", silent)
    assert "is served now: The test images were drawn again by product" in said
    assert newest(services).head_manifest.caveats == ()
    known = sides(services)
    assert all(len(parts) == 1 for parts in known.values())
    tested = {product for product, parts in known.items() if parts == {"test"}}
    assert len(tested) == 3
    first_data = json.loads((services.registry.versions("project-7")[0].path / "data.json").read_text())
    trained = {image["id"] for image in first_data["images"] if image["part"] != "test"}
    documents = services.catalog.documents("7")
    assert not tested & {document.projects["7"].group for document in documents if document.id in trained}

    said = train(services, "7", silent, force=True)  # from then on the parts stay, and versions are compared
    assert sides(services) == known
    assert "against 1.000 of v2" in said
    assert said.endswith("on 12 test images of 3 products.")
    assert not trained_products(newest(services)) & tested


def test_where_every_product_was_trained_on_the_reason_says_so(services: Services, tmp_path: Path) -> None:
    add_products(services, tmp_path / "i", 0, 12)
    train(services, "7", silent)
    change_settings(services, "7", ["product_field={product}_*"])  # a pattern of the file name
    said = train(services, "7", silent)
    assert "served without a comparison: v1 has learned from products of" in said
    assert said.endswith("of 8 test images.")
    assert all(len(parts) == 1 for parts in sides(services).values())
    before = sides(services)
    said = train(services, "7", silent, force=True)
    assert "against 1.000 of v2" in said
    assert said.endswith("on 8 test images of 2 products.")
    assert sides(services) == before


def test_a_product_that_was_trained_on_is_never_tested_although_its_images_were_gone(
    services: Services, tmp_path: Path
) -> None:
    change_settings(services, "7", ["product_field=sku"])
    add_products(services, tmp_path / "i", 0, 12)
    train(services, "7", silent)
    trained = trained_products(newest(services))
    for document in list(services.catalog.documents("7")):
        if document.projects["7"].group in trained:
            services.catalog.leave_project("7", [document.id])
    add_products(services, tmp_path / "i", 20, 6)
    train(services, "7", silent)
    gone = trained - trained_products(newest(services))
    assert gone
    # The same products come again with other images.
    for product in sorted(gone):
        number = int(product[1:])
        add_products(services, tmp_path / "again", number, 1)
    for _ in range(2):
        train(services, "7", silent, force=True)
        tested = {product for product, parts in sides(services).items() if "test" in parts}
        assert not tested & trained
