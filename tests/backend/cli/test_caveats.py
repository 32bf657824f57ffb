"""What says that products are unknown, or that a version was never tested: wherever figures are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.web.app import create_app
from tests.backend.cli.conftest import Run, run_json
from tests.backend.retraining.products import add_products
from tests.small_world import CONFIG, publish_backbone

pytestmark = pytest.mark.slow


@pytest.fixture
def services(settings: Settings) -> Services:
    services = Services(settings)
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    return services


def figures(services: Services) -> list[str]:
    text = create_app(services.settings, services).test_client().get("/metrics").text
    return [line for line in text.splitlines() if line.startswith("taxonomist_model_")]


def doctor(run: Run) -> dict[str, str]:
    code, out, _ = run("doctor", "--project", "7")
    assert code in {0, 1}
    return {line[5:].partition(":")[0]: line for line in out.splitlines()}


def test_products_unknown(run: Run, services: Services, tmp_path: Path) -> None:
    run("settings", "annotators=1")
    add_products(services, tmp_path / "i", 0, 8, field=None)
    trained = run_json(run, "train")
    assert trained["caveats"] == ["products unknown"]
    assert run_json(run, "train", "--force")["reason"].endswith("products (products unknown).")
    assert [row["caveats"] for row in run_json(run, "models", "list")] == [["products unknown"]] * 2
    assert "unknown" in run("models", "list")[1]
    assert "products unknown" in run("models", "show", "v1")[1]
    assert "(products unknown)" in run("models", "promote", "v1")[1]
    assert doctor(run)["model's figures"].startswith("warn")
    assert "products unknown" in doctor(run)["model's figures"]
    assert all('products="unknown"' in line and 'version="v1"' in line for line in figures(services))
    run("models", "promote", "v2")
    assert all('version="v2"' in line for line in figures(services))


def test_never_tested(run: Run, services: Services, tmp_path: Path) -> None:
    run("settings", "annotators=1", "product_field=sku")
    add_products(services, tmp_path / "i", 0, 1)
    add_products(services, tmp_path / "i", 2, 1)  # one product of each of two kinds: both must train
    trained = run_json(run, "train")
    assert trained["caveats"] == ["never tested"]
    assert trained["reason"] == "It is the first model of the project (never tested)."
    assert (trained["macro_f1"], trained["test_images"]) == ({}, 0)
    report = next((services.settings.home / "models").rglob("report.md")).read_text()
    assert "- Never tested." in report
    assert "never" in run("models", "list")[1]
    assert "never tested" in run("models", "show", "v1")[1]
    assert "(never tested)" in run("models", "promote", "v1")[1]
    assert "never tested" in doctor(run)["model's figures"]
    assert figures(services) == ['taxonomist_model_test_images{products="known",project="7",version="v1"} 0.0']


def test_known_products_need_no_note(run: Run, services: Services, tmp_path: Path) -> None:
    run("settings", "annotators=1", "product_field=sku")
    add_products(services, tmp_path / "i", 0, 12)
    assert run_json(run, "train")["caveats"] == []
    assert doctor(run)["model's figures"].startswith("ok")
    assert {line.partition("{")[0] for line in figures(services)} == {
        "taxonomist_model_macro_f1", "taxonomist_model_test_images"
    }  # fmt: skip
    report = next((services.settings.home / "models").rglob("report.md")).read_text()
    assert "images of 2 products" in report
