"""`evaluate` tells images that the champion has learned from, and scores them apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.evaluation import evaluate_manifest
from taxonomist.backend.prediction.evaluation.manifest import _names_in_tree
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.tree import Tree
from tests.backend.retraining.products import add_products
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone, write_catalogue

pytestmark = pytest.mark.slow


@pytest.fixture
def services(settings: Settings, tmp_path: Path) -> Services:
    services = Services(settings.model_copy(update={"views": 0, "head_epochs": 3}))
    publish_backbone(services)
    import_manifest(services, write_catalogue(tmp_path / "seen", 40), "colours")
    train(services, "colours", lambda step, share: None)
    return services


def write(folder: Path, rows: list[tuple[str, bytes, int, str]]) -> Path:
    """Write a manifest of (file, bytes, number of its kind, product)."""
    (folder / "images").mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "level1", "level2", "product"])
        for name, data, kind, product in rows:
            (folder / "images" / name).write_bytes(data)
            table.writerow([name, *PATHS[kind % len(PATHS)], product])
    return folder / "manifest.csv"


def parts(services: Services) -> dict[int, str | None]:
    """Return the part of each image of the catalogue, by its number."""
    return {int(Path(d.projects["colours"].uri).stem): d.projects["colours"].part for d in services.catalog.documents()}


def test_the_manifest_that_was_trained_on(services: Services, tmp_path: Path) -> None:
    scores = evaluate_manifest(services, "colours", tmp_path / "seen" / "manifest.csv")
    tested = sum(part == "test" for part in parts(services).values())
    assert (scores.images, scores.levels[0].images) == (tested, tested)
    assert scores.learned_from is not None
    assert (scores.learned_from.images, scores.learned_from.levels[1].images) == (40 - tested, 40 - tested)
    assert "has learned from 32 of the images" in scores.caveats[0]


def test_a_copy_and_another_image_of_a_product_are_recognised(services: Services, tmp_path: Path) -> None:
    numbers = [number for number, part in parts(services).items() if part == "train"][:3]
    copies = [(f"c{n}.jpg", (tmp_path / f"seen/images/{n:04d}.jpg").read_bytes(), n, "") for n in numbers]
    others = [(f"o{n}.jpg", image_bytes(PATHS[n % 4], 900 + n), n, f"p{n}") for n in numbers]
    unseen = [(f"u{n}.jpg", image_bytes(PATHS[n % 4], 500 + n), n, f"new{n}") for n in range(8)]
    scores = evaluate_manifest(services, "colours", write(tmp_path / "mixed", [*copies, *others, *unseen]))
    assert scores.images == 8
    assert scores.learned_from is not None
    assert scores.learned_from.images == 6


def test_only_images_that_were_learned_from_give_no_figure(services: Services, tmp_path: Path) -> None:
    numbers = [number for number, part in parts(services).items() if part == "train"][:5]
    copies = [(f"{n}.jpg", (tmp_path / f"seen/images/{n:04d}.jpg").read_bytes(), n, f"p{n}") for n in numbers]
    scores = evaluate_manifest(services, "colours", write(tmp_path / "copies", copies))
    assert (scores.images, scores.levels, scores.hierarchical_f1) == (0, (), None)
    assert scores.learned_from is not None
    assert scores.learned_from.images == 5


def test_unseen_images_need_no_note_and_missing_products_do(services: Services, tmp_path: Path) -> None:
    unseen = write_catalogue(tmp_path / "unseen", 8, first=500)
    assert evaluate_manifest(services, "colours", unseen).caveats == ()
    nameless = write(tmp_path / "nameless", [("a.jpg", image_bytes(PATHS[0], 700), 0, "")])
    (caveat,) = evaluate_manifest(services, "colours", nameless).caveats
    assert caveat.startswith("Products unknown")


CHOICES = """<View><Image name="image" value="$image"/><Choices name="colour" toName="image">
  <Choice value="Red"/><Choice value="Yellow"/><Choice value="Blue" alias="b"/><Choice value="Green"/>
</Choices></View>"""


@pytest.mark.parametrize(
    "config", [CONFIG.replace('"Blue"', '"Blue" alias="b"').replace('"Cold"', '"Cold" alias="c"'), CHOICES]
)
def test_names_are_read_as_an_import_reads_them(settings: Settings, tmp_path: Path, config: str) -> None:
    services = Services(settings.model_copy(update={"views": 0, "head_epochs": 3, "min_annotators": 1}))
    publish_backbone(services)
    services.projects.update("7", label_config=config)
    import_manifest(services, write_catalogue(tmp_path / "seen", 40), "7")
    train(services, "7", lambda step, share: None)
    scores = evaluate_manifest(services, "7", write_catalogue(tmp_path / "unseen", 20, first=500))
    assert (scores.images, scores.outside_taxonomy) == (20, 0)
    assert scores.levels[-1].accuracy > 0.9


def test_a_choice_that_got_an_alias_after_training_has_its_former_name() -> None:
    model = Tree("colour", "image", "taxonomy", (("Cold",), ("Cold", "Blue"), ("Warm",)))
    current = Tree("colour", "image", "taxonomy", (("Cold",), ("Cold", "b"), ("w",)), values=((("Cold", "b"), "Blue"),))
    paths = [("Cold", "Blue"), ("Cold", "Grey"), ("Hot",)]
    assert _names_in_tree(paths, model, current) == {
        ("Cold", "Blue"): ("Cold", "Blue"),
        ("Cold", "Grey"): ("Cold", "Grey"),
        ("Hot",): ("Hot",),
    }


def test_products_that_became_known_later_are_those_of_the_catalogue(settings: Settings, tmp_path: Path) -> None:
    services = Services(settings.model_copy(update={"views": 0, "head_epochs": 3, "min_annotators": 1}))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    add_products(services, tmp_path / "i", 0, 8)
    train(services, "7", lambda step, share: None)
    change_settings(services, "7", ["product_field=sku"])
    decide_anew(services, "7")
    trained = [d.projects["7"].group for d in services.catalog.documents("7") if d.projects["7"].part == "train"]
    number = int(str(trained[0]).removeprefix("p"))
    rows = [
        ("o.jpg", image_bytes(PATHS[number % 4], 900), number, f"p{number}"),
        ("n.jpg", image_bytes(PATHS[0], 901), 0, "new"),
    ]
    scores = evaluate_manifest(services, "7", write(tmp_path / "other", rows))
    assert scores.images == 1
    assert scores.learned_from is not None
    assert scores.learned_from.images == 1
