"""The Python API on a small trained project."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import taxonomist
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone, write_catalogue


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with project "7", which has a champion, and project "empty", which has no label."""
    folder = tmp_path_factory.mktemp("api")
    services = Services(Settings(home=folder / "home"))
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    services.projects.update("empty", label_config=CONFIG)
    import_manifest(services, write_catalogue(folder / "catalogue", 80), "7")
    train(services, "7", lambda step, share: None)
    services.close()
    return folder


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[taxonomist.Home]:
    monkeypatch.chdir(tmp_path)
    with taxonomist.open_home(folder / "home") as home:
        yield home


@pytest.fixture
def project(home: taxonomist.Home) -> taxonomist.Project:
    return home.project("7")


def test_projects_are_listed_and_found_by_name_or_number(home: taxonomist.Home) -> None:
    assert [project.name for project in home.projects()] == ["7", "empty"]
    assert home.project(7).name == home.project("7").name == "7"
    with pytest.raises(NotFoundError, match="Known projects: 7, empty"):
        home.project("furniture")
    with pytest.raises(NotFoundError, match="Name one project"):
        home.project()


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no home folder"):
        taxonomist.open_home(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_a_wrong_setting_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'neighbours'"):
        taxonomist.open_home(folder / "home", neigbours=3)


def test_labels_are_those_of_the_catalogue(project: taxonomist.Project) -> None:
    labels = project.labels()
    assert len(labels) == 80
    assert {label.path for label in labels} == set(PATHS)
    assert {label.part for label in labels} == {"train", "test"}
    frame = labels.to_frame()
    assert list(frame["product"]) == [label.product for label in labels]


def test_every_kind_of_image_gets_the_same_prediction(
    project: taxonomist.Project, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "red.png"
    image = Image.open(io.BytesIO(image_bytes(PATHS[0], 5)))
    image.save(file)
    data = file.read_bytes()
    predictions = project.predict([file, str(file), data, Image.open(file), np.asarray(image)])
    assert [prediction.path for prediction in predictions] == [PATHS[0]] * 5
    assert len({prediction.score for prediction in predictions}) == 1
    assert [prediction.image for prediction in predictions][:3] == [str(file), str(file), "image 2"]
    assert {prediction.control for prediction in predictions} == {"colour"}
    assert project.version == "v1"


def test_one_bad_image_costs_only_itself(project: taxonomist.Project, tmp_path: Path) -> None:
    wrong_array = np.zeros((4, 4), np.uint8)
    images: list[taxonomist.ImageInput] = [tmp_path / "missing.jpg", b"no image", image_bytes(PATHS[1], 1), wrong_array]
    missing, damaged, good, array = project.predict(images)
    assert "missing.jpg" in (missing.error or "")
    assert "not an image" in (damaged.error or "")
    assert "uint8 (4, 4)" in (array.error or "")
    assert (good.path, good.error) == (PATHS[1], None)
    with pytest.raises(taxonomist.TaxonomistError, match=r"missing\.jpg"):
        project.embed(images)


def test_an_address_is_read_by_the_rules_of_the_project(project: taxonomist.Project) -> None:
    (prediction,) = project.predict(["https://example.com/secret.jpg"])
    assert "allowed_image_hosts" in (prediction.error or "").lower()


def test_embeddings_are_those_of_the_store(project: taxonomist.Project, folder: Path) -> None:
    label = project.labels()[0]
    vectors = project.embed([label.uri])
    services = Services(Settings(home=folder / "home"))
    found, stored = services.embeddings("v1").get([label.image_id])
    assert found.all()
    np.testing.assert_allclose(vectors, stored, rtol=1e-3)  # the store keeps half precision
    assert vectors.shape == (1, 48)
    assert vectors.dtype == np.float32
    assert project.embed([]).shape == (0, 48)


def test_look_alikes_have_the_labels(project: taxonomist.Project) -> None:
    found = project.similar(image_bytes(PATHS[2], 999), k=4)
    assert [look_alike.labels["colour"] for look_alike in found] == [(PATHS[2],)] * 4
    assert found[0].similarity >= found[-1].similarity
    assert list(found.to_frame()["similarity"]) == [look_alike.similarity for look_alike in found]


def test_scores_of_an_unseen_manifest(project: taxonomist.Project, tmp_path: Path) -> None:
    scores = project.evaluate(write_catalogue(tmp_path / "unseen", 12, first=500))
    assert (scores.images, scores.unreadable, scores.model_version) == (12, 0, "taxonomist-v1")
    assert [level.level for level in scores.levels] == [1, 2]
    assert scores.levels[0].accuracy == 1.0
    frame = taxonomist.Table(scores.per_image).to_frame()
    assert list(frame["likeliest"]) == [PATHS[number % len(PATHS)] for number in range(500, 512)]
    assert scores.per_image[0].right == (True, True)


def test_a_project_without_labels_suggests_nothing(home: taxonomist.Home) -> None:
    project = home.project("empty")
    (prediction,) = project.predict([image_bytes(PATHS[0], 1)])
    assert (prediction.path, prediction.score, prediction.error) == ((), 0.0, None)
    assert not project.labels()
    assert not project.similar(image_bytes(PATHS[0], 1))
    assert project.version is None


def test_the_import_is_cheap_until_a_name_is_used() -> None:
    code = "import sys, taxonomist; assert not {'numpy', 'torch', 'pandas'} & sys.modules.keys(); taxonomist.open_home"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)
    assert set(taxonomist.__all__) <= set(dir(taxonomist))
