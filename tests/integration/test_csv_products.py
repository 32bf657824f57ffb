"""No product of the test part is in training, for CSV files that are imported and trained on by the command line.

The same for a Label Studio project and its export is in tests/e2e/test_products.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.backend.retraining.products import patchwork
from tests.backend_process import BackendProcess
from tests.small_world import PATHS

SETTINGS = {"backbone_weights": "starter", "views": 1, "head_epochs": 3}


def write_delivery(folder: Path, products: range, views: range) -> Path:
    """Write images of products and their CSV. Product n is of kind n modulo 4; no two images are near-duplicates."""
    (folder / "images").mkdir(parents=True)
    lines = ["File;Level 1;Level 2;Product"]
    for product in products:
        path = PATHS[product % len(PATHS)]
        for view in views:
            name = f"article-{product}-view-{view}.jpg"
            (folder / "images" / name).write_bytes(patchwork(path, 100 * product + view))
            lines.append(f"{name};{';'.join(path)};{product}")
    (folder / f"{folder.name}.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / f"{folder.name}.csv"


def product_in(uri: str) -> str:
    return uri.rpartition("/")[2].split("-")[1]


def check_split(home: Path) -> dict[str, set[str]]:
    """Check the home's split and the record of its newest version; return the products of each part."""
    services = Services(Settings(home=home))
    documents = {document.id: document for document in services.catalog.documents("shop")}
    stored: dict[str, set[str]] = {"test": set(), "train": set()}
    for document in documents.values():
        labels = document.projects["shop"]
        assert labels.group == product_in(labels.uri)
        stored[labels.part or ""].add(labels.group)
    assert not stored["test"] & stored["train"]

    version = services.registry.versions("project-shop")[-1]
    recorded: dict[str, set[str]] = {"test": set(), "train": set()}
    for image in json.loads((version.path / "data.json").read_text(encoding="utf-8"))["images"]:
        recorded[image["part"]].add(product_in(documents[image["id"]].projects["shop"].uri))
    assert all(recorded.values())
    assert not recorded["test"] & recorded["train"]
    assert recorded["test"] == stored["test"]
    manifest = version.head_manifest
    assert manifest.tested is not None
    assert (manifest.tested.products, manifest.caveats) == (len(recorded["test"]), ())
    return recorded


@pytest.mark.slow
def test_no_product_of_a_csv_is_both_tested_and_trained(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "home", SETTINGS)
    backend.command("import", str(write_delivery(tmp_path / "first", range(16), range(4))), "--project", "shop")
    backend.command("train", "--project", "shop")
    first = check_split(backend.home)

    # More views of all these products, and new products.
    second = write_delivery(tmp_path / "second", range(24), range(4, 7))
    backend.command("import", str(second), "--project", "shop")
    trained = json.loads(backend.command("train", "--project", "shop", "--json").stdout)
    assert trained["version"] == "v2"
    later = check_split(backend.home)
    assert first["test"] <= later["test"]
    assert not later["test"] & first["train"]
