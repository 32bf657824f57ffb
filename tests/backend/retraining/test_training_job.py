"""One training reads, decodes and embeds each image at most once, and asks for labels, products and parts once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.retraining import training_job
from taxonomist.backend.retraining.training_job import train, train_head
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.training.heads.train_project import TrainingOutcome, train_project
from tests.backend.retraining.counting import Counts, count_work
from tests.small_world import CONFIG, publish_backbone, publish_poor_backbone, write_catalogue

VIEWS = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Services:
    """Project "7" with 40 labelled images that were never read, and no backbone. Its head learns from views, too."""
    services = Services(settings.model_copy(update={"head": "mlp", "views": VIEWS, "head_epochs": 3}))
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path / "catalogue", 40), "7")
    return services


@pytest.fixture
def counts(project: Services, monkeypatch: pytest.MonkeyPatch) -> Counts:
    return count_work(project, monkeypatch)


def silent(step: str, share: float) -> None: ...


def add_images(services: Services, tmp_path: Path, count: int = 4) -> None:
    more = write_catalogue(tmp_path / "catalogue", count, first=40)
    import_manifest(services, more, "7", options=ManifestOptions(source="more"))


def parts(services: Services) -> dict[str, str | None]:
    """Return the part of each labelled image, without counted operations."""
    documents = services.catalog.get_many(services.embeddings("v1").snapshot()[0])
    return {document.id: document.projects["7"].part for document in documents.values()}


def of_part(parts: Mapping[str, str | None], part: str) -> int:
    return list(parts.values()).count(part)


def check_once(counts: Counts, *, images: int, embeddings: int, trains: bool = True) -> None:
    listings = 1 + trains  # the labels, and for a new version the products of the home
    assert (counts.listings, counts.usable, counts.splits) == (listings, 1, 1)
    for counted, expected in ((counts.reads, images), (counts.decodes, images), (counts.embeddings, embeddings)):
        assert len(counted) == expected
        assert set(counted.values()) <= {1}, counted.most_common(3)


def test_a_setting_chooses_the_kind_of_head_which_decides_what_is_embedded(project: Services) -> None:
    services = Services(project.settings.model_copy(update={"head": "lda", "seed": 3}))
    publish_backbone(services)
    train(services, "7", silent)
    settings = services.registry.get("project-7", "v1").head_manifest.settings
    assert (settings["kind"], settings["discriminant"]["seed"]) == ("lda", 3)
    assert not [id for id in services.embeddings("v1").snapshot()[0] if "#" in id]  # no augmented views


def test_labels_that_an_order_has_chosen_do_not_calibrate(project: Services) -> None:
    services = Services(project.settings.model_copy(update={"head": "lda"}))
    publish_backbone(services)
    images = sorted(document.id for document in services.catalog.documents("7"))
    services.journal.draws.add("7", {image: "order" if number % 2 else "random" for number, image in enumerate(images)})
    train(services, "7", silent)
    calibrating = [image for image in images[::2] if parts(services)[image] == "train"]
    manifest = services.registry.get("project-7", "v1").head_manifest
    assert manifest.calibration["colour"].support[0] == len(calibrating)


def test_a_first_training_and_one_with_a_few_new_labels(project: Services, counts: Counts, tmp_path: Path) -> None:
    publish_backbone(project)
    train(project, "7", silent)
    first = parts(project)
    assert (of_part(first, "train"), of_part(first, "test")) == (32, 8)
    check_once(counts, images=40, embeddings=40 + VIEWS * 32)
    stored = project.embeddings("v1").snapshot()[0]
    assert sum("#" in id for id in stored) == VIEWS * 32

    add_images(project, tmp_path)
    counts.reset()
    train(project, "7", silent)
    second = parts(project)
    assert len(second) == 44
    check_once(counts, images=4, embeddings=4 + VIEWS * (of_part(second, "train") - 32))

    counts.reset()
    train(project, "7", silent)
    check_once(counts, images=0, embeddings=0, trains=False)


def test_images_that_were_embedded_before_are_read_once_for_their_views(project: Services, counts: Counts) -> None:
    publish_backbone(project)
    project.settings.views = 0
    train(project, "7", silent)
    project.settings.views = VIEWS
    counts.reset()
    train(project, "7", silent)
    check_once(counts, images=32, embeddings=VIEWS * 32)


def test_the_champion_of_another_backbone_needs_no_second_reading(
    project: Services, counts: Counts, tmp_path: Path
) -> None:
    publish_poor_backbone(project)
    train(project, "7", silent)
    before = parts(project)
    add_images(project, tmp_path, 16)
    counts.reset()
    better = publish_backbone(project, promote=False)
    outcome = train_head(project, "7", silent, better, promote=False)
    assert outcome.champion_metrics is not None
    new_test = of_part(outcome.parts, "test") - of_part(before, "test")
    assert new_test > 0
    check_once(counts, images=56, embeddings=56 + VIEWS * of_part(outcome.parts, "train") + new_test)


def test_copies_found_while_reading_share_a_part_and_nothing_is_read_twice(
    project: Services, counts: Counts, tmp_path: Path
) -> None:
    images = tmp_path / "catalogue" / "images"
    for number in range(0, 40, 2):
        (images / f"{number + 1:04d}.jpg").write_bytes((images / f"{number:04d}.jpg").read_bytes())
    publish_backbone(project)
    outcome = train_head(project, "7", silent, project.registry.get("backbone", "v1"))
    documents = list(project.catalog.get_many(outcome.parts).values())
    by_hash: dict[str | None, set[str]] = {}
    for document in documents:
        by_hash.setdefault(document.file_hash, set()).add(outcome.parts[document.id])
    assert len(by_hash) == 20
    assert all(len(found) == 1 for found in by_hash.values())
    assert set(counts.reads.values()) == {1}
    assert len(counts.reads) == 40
    assert counts.splits == 1


def test_an_unreadable_image_is_tried_once_and_left_out(project: Services, counts: Counts, tmp_path: Path) -> None:
    (tmp_path / "catalogue" / "images" / "0003.jpg").write_bytes(b"broken")
    publish_backbone(project)
    outcome = train_head(project, "7", silent, project.registry.get("backbone", "v1"))
    assert ["not an image" in reason for reason in outcome.left_out.values()] == [True]
    assert len(counts.reads) == 40
    assert set(counts.reads.values()) == {1}


def test_after_a_stop_the_next_training_reads_only_what_is_missing(project: Services, counts: Counts) -> None:
    publish_backbone(project)

    def stop(step: str, share: float) -> None:
        if step == "embedding" and share > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(project, "7", stop)
    kept = len(project.embeddings("v1"))
    assert 0 < kept <= 40
    counts.reset()
    outcome = train_head(project, "7", silent, project.registry.get("backbone", "v1"))
    training = of_part(outcome.parts, "train")
    assert set(counts.reads.values()) == {1}
    assert sum(counts.embeddings.values()) == 40 - kept + VIEWS * training


def test_images_that_are_left_out_are_counted(
    project: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_backbone(project)
    folder = tmp_path / "catalogue" / "images"
    for number in range(5):
        (folder / f"{number:04d}.jpg").unlink()
    (folder / "0005.jpg").write_bytes(b"no image")
    whole = (folder / "0006.jpg").read_bytes()
    (folder / "0006.jpg").write_bytes(whole[:-10])
    outcome = train(project, "7", silent)
    assert "6 labelled images are left out; report.md says why." in outcome
    lines = [line for line in caplog.messages if line.startswith("project 7: ") and "mlp" not in line]
    assert len(lines) == 3, lines
    assert "images without an embedding: 5, for example" in lines[0]
    assert "There is no image" in lines[0]
    assert "images without an embedding: 1, " in lines[1]
    assert "not an image" in lines[1]
    assert "images that are used although their file has a fault: 1, " in lines[2]
    assert "cut short" in lines[2]


def test_too_few_usable_images_say_why(project: Services, tmp_path: Path) -> None:
    publish_backbone(project)
    for number in range(38):
        (tmp_path / "catalogue" / "images" / f"{number:04d}.jpg").unlink()
    with pytest.raises(TrainingError, match=r"Only 2 of 40 labelled images can be used.*38 left out.*no image"):
        train(project, "7", silent)


def test_images_of_labelled_products_are_learned_from_without_labels(
    project: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Mapping[str, list[str]]] = []

    def spy(*arguments: Any, companions: Mapping[str, list[str]], **options: Any) -> TrainingOutcome:
        found.append(companions)
        return train_project(*arguments, companions=companions, **options)

    monkeypatch.setattr(training_job, "train_project", spy)
    services = Services(project.settings.model_copy(update={"head": "lda"}))
    publish_backbone(services)
    for name, product in (("a", "p0"), ("b", "p1"), ("c", "p0"), ("d", "unlabelled"), ("e", None)):
        labels = ProjectLabels(uri=f"file:///{name}.jpg", group=product)
        services.catalog.put(ImageDocument(id=name, uri_orig=labels.uri, projects={"7": labels}))
    private = ProjectLabels(uri="file:///f.jpg", group="p1")
    services.catalog.put(
        ImageDocument(id="f", uri_orig=private.uri, face_rects=[[1, 2, 3, 4]], projects={"7": private})
    )
    train(services, "7", silent)
    trained = {
        document.product("7")
        for document in services.catalog.documents("7", labelled=True)
        if document.projects["7"].part == "train"
    }
    expected = {"p0": ["a", "c"], "p1": ["b"]}
    assert found == [{product: images for product, images in expected.items() if product in trained}]
    assert found[0]


def test_a_report_knows_which_tasks_were_prefilled(project: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_job, "prefilled_controls", lambda _services, _project, images: dict.fromkeys(
        images, frozenset({"colour"})
    ))  # fmt: skip
    publish_backbone(project)
    train(project, "7", silent)
    report = json.loads((project.registry.get("project-7", "v1").path / "report.json").read_text())
    assert report["test_by_prefilling"]["pre-filled"] == {
        control: found["metrics"] for control, found in report["test"].items()
    }


def test_a_head_that_does_not_keep_its_promise_is_named(project: Services, caplog: pytest.LogCaptureFixture) -> None:
    train(project, "7", silent)
    assert "mlp are right less often than the target of 90 %; lda keeps it" in caplog.text
