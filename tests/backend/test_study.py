"""A study on a project: its labels and images, and its contestants."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.study import build_contestants, collect_labelled_images, study_project
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TrainingError
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.scores import Stat
from tests.present import present
from tests.small_world import SIZE, publish_poor_backbone

OPTIONS = StudyOptions(train=40, validation=16, test=20, seeds=1, views=0, head=HeadOptions(hidden=32, epochs=20))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_images_and_labels_belong_together(world: Services, tmp_path: Path) -> None:
    labelled, notes = collect_labelled_images(world, "7", tmp_path)
    assert len(labelled) == 80
    assert not notes
    for position, (id, path) in enumerate(zip(labelled.ids, labelled.paths, strict=True)):
        labels = present(world.catalog.get(id)).projects["7"]
        assert labels.paths("colour") == (path,)
        assert labels.group == labelled.groups[position]
        red, green, blue = labelled.image(position).reshape(-1, 3).mean(0)
        assert {"Red": red > 180 > green, "Yellow": green > 180, "Blue": blue > 180, "Green": green > 120}[path[1]]
    assert not labelled.held_out


def test_images_left_out_are_noted(world: Services, tmp_path: Path) -> None:
    first, second, *_ = world.catalog.documents("7", labelled=True)
    Path(first.projects["7"].uri).unlink()

    def two_paths(document: ImageDocument) -> ImageDocument:
        labels = document.projects["7"].model_copy(update={"accepted": {"colour": [["Warm"], ["Cold", "Blue"]]}})
        return document.in_project("7", labels)

    world.catalog.update(second.id, two_paths)
    labelled, notes = collect_labelled_images(world, "7", tmp_path)
    assert len(labelled) == 78
    assert not {first.id, second.id} & set(labelled.ids)
    assert notes == [
        "Labelled images left out because they have several accepted paths, or none in the taxonomy: 1.",
        "Labelled images left out because they cannot be read (see failures.csv): 1.",
    ]
    assert first.id in (tmp_path / "failures.csv").read_text(encoding="utf-8")


def test_the_test_part_is_held_out_since_no_pre_training_sees_it(trained: Services, tmp_path: Path) -> None:
    tested = {d.projects["7"].group for d in trained.catalog.documents("7") if d.projects["7"].part == "test"}
    assert tested
    assert collect_labelled_images(trained, "7", tmp_path)[0].held_out == tested


def test_the_contestants(world: Services) -> None:
    poor = publish_poor_backbone(world, promote=False)
    found, _ = build_contestants(world, [poor.version], imagenet=False)
    names = [contestant.name for contestant in found]
    champion = world.registry.champion(BACKBONE)
    assert names == [
        "random efficientnet_lite0",
        "raw pixels",
        f"backbone {champion}",
        f"backbone {champion}, oversampling",
        f"backbone {poor.version}",
        f"backbone {poor.version}, oversampling",
    ]
    picture = np.full((1, SIZE, SIZE, 3), 100, np.uint8)
    assert found[2].embed(picture).shape == (1, 48)
    assert found[4].embed(picture).shape == (1, 1)
    with pytest.raises(NotFoundError):
        build_contestants(world, ["v99"], imagenet=False)
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        build_contestants(world, imagenet=False, fine_tune=1)


@pytest.mark.slow
def test_a_study_of_a_project(world: Services, tmp_path: Path) -> None:
    poor = publish_poor_backbone(world, promote=False)
    steps: list[float] = []
    result = study_project(
        world,
        "7",
        tmp_path / "study",
        OPTIONS,
        lambda stage, share: steps.append(share),
        versions=[poor.version],
        imagenet=False,
    )
    rows = {row[0]: row for row in next(table for table in result.tables if table.name == "comparison").rows}
    champion = world.registry.champion(BACKBONE)
    ours, others = rows[f"backbone {champion}"][3], rows[f"backbone {poor.version}"][3]
    assert isinstance(ours, Stat)
    assert isinstance(others, Stat)
    assert ours.mean > max(0.95, others.mean)
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1)
    assert f"| backbone {poor.version} | backbone {poor.version}" in result.report.read_text(encoding="utf-8")


def test_what_cannot_be_studied(world: Services, services: Services, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no taxonomy "shape"'):
        study_project(world, "7", tmp_path, OPTIONS, control="shape", imagenet=False)
    with pytest.raises(ConfigError, match="Project 8 is not known"):
        study_project(world, "8", tmp_path, OPTIONS, imagenet=False)
    for document in list(world.catalog.documents("7")):
        Path(document.projects["7"].uri).unlink()
    with pytest.raises(TrainingError, match="no labelled image that can be read"):
        study_project(world, "7", tmp_path, replace(OPTIONS, seeds=2), imagenet=False)


def test_near_duplicates_count_as_one_product_where_it_is_not_known(world: Services, tmp_path: Path) -> None:
    """The images of one colour are near-duplicates; one of them has a service report, which names the product."""

    def forget_product(document: ImageDocument) -> ImageDocument:
        return document.in_project("7", document.projects["7"].model_copy(update={"group": None}))

    ids = [document.id for document in world.catalog.documents("7")]
    world.catalog.update_many(dict.fromkeys(ids, forget_product))
    alone, notes = collect_labelled_images(world, "7", tmp_path)
    assert (len(set(alone.groups)), len(notes)) == (80, 1)
    assert notes[0].startswith("Products unknown: 80 of 80 images have none.")
    embed_all(world, "7", lambda step, share: None)
    world.catalog.update(ids[0], lambda document: document.model_copy(update={"servicereport_filename": "r1"}))
    labelled, notes = collect_labelled_images(world, "7", tmp_path)
    groups = dict(zip(labelled.ids, labelled.groups, strict=True))
    assert groups.pop(ids[0]) == "r1"
    colours: dict[str, set[tuple[str, ...]]] = {}
    for id, path in zip(labelled.ids, labelled.paths, strict=True):
        if id in groups:
            colours.setdefault(groups[id], set()).add(path)
    assert sorted(map(len, colours.values())) == [1, 1, 1, 1]
    assert "(79 images)" in notes[0]
