"""From the catalogue to the images of a pre-training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.prediction.embedding import embed
from taxonomist.backend.pretraining.prepared_images import prepare_all, prepared_image_store, wanted_images
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from tests.small_world import CONFIG, SIZE, publish_backbone, write_catalogue


@pytest.fixture
def catalogue(services: Services, tmp_path: Path) -> Services:
    """Project "7" with eight images."""
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path / "catalogue", 8), "7")
    return services


def test_an_embedding_of_stored_pixels_is_the_one_that_serving_computes(catalogue: Services) -> None:
    publish_backbone(catalogue)
    backbone = catalogue.registry.champion(BACKBONE)
    assert backbone is not None
    addresses = {document.id: document.projects["7"].uri for document in catalogue.catalog.documents("7")}
    assert not embed(catalogue, "7", addresses, backbone).failures

    assert prepare_all(catalogue, SIZE).new == 8
    ids, pixels = prepared_image_store(catalogue, SIZE).snapshot()
    assert ids == list(addresses)
    ours = catalogue.embedder(backbone).embed(np.asarray(pixels)).astype(np.float16)
    found, served = catalogue.embeddings(backbone).get(ids)
    assert found.all()
    np.testing.assert_array_equal(ours.astype(np.float32), served)


def test_new_images_are_added_and_failures_listed(catalogue: Services, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare_all(catalogue, SIZE, lambda done, of: told.append((done, of)))
    assert told[-1] == (8, 8)
    more = write_catalogue(tmp_path / "catalogue", 4, first=8)
    import_manifest(catalogue, more, "7", options=ManifestOptions(source="more"))
    (tmp_path / "catalogue" / "images" / "0009.jpg").unlink()
    prepared = prepare_all(catalogue, SIZE)
    assert (prepared.new, prepared.present) == (3, 8)
    (failed,) = prepared.failures
    with (catalogue.settings.home / "pictures" / str(SIZE) / "failures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["reason"]) == (failed, prepared.failures[failed])
    assert row["uri"].endswith("0009.jpg")
    assert "no image" in row["reason"]


def first(services: Services) -> ImageDocument:
    return next(services.catalog.documents())


MARKS: dict[str, dict[str, Any]] = {
    "blurred": {"is_blurred": True},
    "sharp": {"is_blurred": False},
    "sorted out": {"sortout": "Sort Out"},
    "kept": {"sortout": "Keep"},
    "undecided": {"sortout": ""},
    "test set": {"sortout_testset": True},
    "test part": {"projects": {"7": ProjectLabels(uri="x", part="test")}},
    "train part": {"projects": {"7": ProjectLabels(uri="x", part="train")}},
}


@pytest.mark.parametrize(
    ("skip", "left_out"),
    [
        ({}, {"blurred", "sorted out"}),  # the defaults
        ({"pretrain_skip_blurred": False}, {"sorted out"}),
        ({"pretrain_skip_sorted_out": False}, {"blurred"}),
    ],
)
def test_the_settings_decide_what_is_left_out(tmp_path: Path, skip: dict[str, Any], left_out: set[str]) -> None:
    services = Services(Settings(home=tmp_path / "home", **skip))
    for name, fields in MARKS.items():
        document = ImageDocument(id=name, projects={"7": ProjectLabels(uri="x")}).model_copy(update=fields)
        services.catalog.put(document)
    assert {wanted.id for wanted in wanted_images(services)} == set(MARKS) - left_out


def test_an_image_of_two_projects_is_prepared_once_and_one_of_none_is_not(catalogue: Services, tmp_path: Path) -> None:
    import_manifest(catalogue, tmp_path / "catalogue" / "manifest.csv", "8")
    left = first(catalogue)
    catalogue.catalog.leave_project("7", [left.id])
    assert len(wanted_images(catalogue)) == 8
    catalogue.catalog.leave_project("8", [left.id])
    prepared = prepare_all(catalogue, SIZE)
    assert (prepared.new, prepared.failures) == (7, {})
    assert left.id not in prepared_image_store(catalogue, SIZE)


def test_file_properties_are_added_to_the_catalogue_and_replace_none(catalogue: Services) -> None:
    known = first(catalogue)
    catalogue.catalog.put(known.model_copy(update={"file_hash": "5f9d04d3606"}))
    prepare_all(catalogue, SIZE)
    hashes = {}
    for document in catalogue.catalog.documents():
        assert (document.resolution_width, document.resolution_height) == (48, 48)
        hashes[document.id] = document.file_hash
    assert hashes.pop(known.id) == "5f9d04d3606"
    assert all(value and len(value) == 64 for value in hashes.values())
    assert len(set(hashes.values())) == 7
