import itertools
import json
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.inference.image_decoding import prepare_image
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.storage.registry.manifests import PromotionRecord, TrainingData
from taxonomist.taxonomy.errors import ImageNotFoundError, TrainingError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.heads.train_project import Example, TrainingOptions, TrainingOutcome, train_project
from tests.images import encoded
from tests.training.conftest import SIZE, Project

pytestmark = pytest.mark.slow

OPTIONS = TrainingOptions(HeadOptions(hidden=32, threads=1), views=2)


def train(project: Project, examples: list[Example], options: TrainingOptions = OPTIONS) -> TrainingOutcome:
    return train_project(
        "4", examples, [project.tree], project.store, None, project.registry, project.backbone, options
    )


def test_first_model(project: Project) -> None:
    seen: list[tuple[str, float]] = []
    examples = project.examples(20)
    outcome = train_project(
        "4", examples, [project.tree], project.store, None, project.registry, project.backbone, OPTIONS,
        lambda stage, share: seen.append((stage, share)),
    )  # fmt: skip
    assert outcome.promoted
    assert project.registry.champion("project-4") == outcome.version.version == "v1"
    assert outcome.metrics["media"].levels[1].accuracy > 0.9
    assert {e.id for e in examples} == outcome.parts.keys()
    assert list(outcome.parts.values()).count("test") == 24
    assert list(dict.fromkeys(stage for stage, _ in seen)) == ["embedding", "training", "evaluating", "publishing"]
    assert all(0 <= share <= 1 for _, share in seen)


def test_what_comes_with_a_version(project: Project) -> None:
    examples = [replace(example, file_hash=f"hash {example.id}") for example in project.examples(20)]
    version = train(project, examples).version
    project.registry.verify(version)
    assert set(version.files) == {
        "head.safetensors", "report.json", "report.md", "curves.json", "curves.png", "data.json", "outcomes.json",
        "confusion-media-1.png", "confusion-media-2.png", "confusion-media-1.csv", "confusion-media-2.csv",
    }  # fmt: skip
    manifest = version.head_manifest
    assert (manifest.project, manifest.backbone) == ("4", "v1")
    assert manifest.trees == (project.tree,)
    assert manifest.calibration["media"].support[0] > 0
    assert manifest.champion_metrics is None
    assert manifest.promotion == PromotionRecord(
        promoted=True, reason="It is the first model of the project.", aliases="(None, 0)"
    )
    assert manifest.settings["head"]["hidden"] == 32
    assert manifest.duration_s is not None
    assert manifest.duration_s > 0
    data = json.loads((version.path / "data.json").read_text())
    assert manifest.data is not None
    inputs = manifest.data.inputs
    assert manifest.data == TrainingData(fingerprint=data["fingerprint"], count=120, left_out=0, inputs=inputs)
    assert inputs is not None
    assert len(inputs) == 64
    assert {image["part"] for image in data["images"]} == {"train", "validation", "test"}
    assert data["images"][0]["file_hash"] == f"hash {data['images'][0]['id']}"
    report = json.loads((version.path / "report.json").read_text())
    assert report["test"]["media"]["metrics"] == json.loads(json.dumps(manifest.metrics["media"].to_json()))
    assert "### Level 2" in (version.path / "report.md").read_text()
    curves = json.loads((version.path / "curves.json").read_text())
    assert curves["epochs"][curves["best"]]["validation_loss"] > 0


def test_a_tested_image_is_scored_down_to_the_deepest_node_that_training_knows(project: Project) -> None:
    """Each product has a node of its own on level 3. The report counts such images, and names what no figure tests."""
    examples = [
        replace(example, labels={"media": ((*path, example.id),)}, group=example.id)
        for example in project.examples(10)
        for path in example.labels["media"]
    ]
    deep = tuple(path for example in examples for path in example.labels["media"])
    project.tree = replace(project.tree, paths=(*project.tree.paths, *deep))
    outcome = train(project, examples)
    tested = sorted(id for id, part in outcome.parts.items() if part == "test")
    assert len(tested) == 12
    assert [level.support for level in outcome.metrics["media"].levels] == [12, 12]
    version = outcome.version
    assert version.head_manifest.tested is not None
    assert version.head_manifest.tested.shortened == 12
    assert (version.head_manifest.tested.nodes, version.head_manifest.tested.untested) == ({"media": 69}, {"media": 60})
    report = (version.path / "report.md").read_text()
    assert "- 12 of them show a node that training does not know; they are scored down to the deepest" in report
    assert "## Nodes without test images, media (60 of 69)" in report
    assert all(f"- {' › '.join(path)}\n" in report for path in deep)
    named = json.loads((version.path / "report.json").read_text())["nodes_without_test_images"]
    assert sorted(map(tuple, named["media"])) == sorted(deep)


@pytest.mark.slow
def test_same_data_same_model_in_any_order(project: Project) -> None:
    examples = project.examples(10)
    one, two = train(project, examples), train(project, examples[::-1])
    assert one.parts == two.parts
    assert one.version.head_manifest.data == two.version.head_manifest.data
    files = [outcome.version.files["head.safetensors"].sha256 for outcome in (one, two)]
    assert files[0] == files[1]
    changed = [replace(examples[0], labels={"media": (("pipes",),)}), *examples[1:]]
    other = train(project, changed).version.head_manifest.data
    assert other is not None
    assert one.version.head_manifest.data is not None
    assert other.fingerprint != one.version.head_manifest.data.fingerprint


def test_a_worse_challenger_stays_a_candidate(project: Project) -> None:
    examples = project.examples(20)
    first = train(project, examples)
    random = np.random.default_rng(0)
    leaves = [path for path in project.tree.paths if len(path) == 2]
    wrong = [
        example
        if first.parts[example.id] == "test"
        else replace(example, labels={"media": (leaves[random.integers(len(leaves))],)})
        for example in examples
    ]
    kept = [replace(example, part=first.parts[example.id]) for example in wrong]
    second = train(project, kept)
    assert not second.promoted
    assert second.reason.startswith("It is worse: hierarchical F1")
    assert project.registry.champion("project-4") == "v1"
    assert second.version.version == "v2"
    manifest = second.version.head_manifest
    assert manifest.promotion is not None
    assert manifest.promotion.promoted is False
    assert manifest.promotion.figures is not None
    assert manifest.promotion.figures.f1 == pytest.approx(second.metrics["media"].hierarchical_f1)
    assert manifest.promotion.figures.champion_f1 == pytest.approx(first.metrics["media"].hierarchical_f1)
    learned = sum(part != "test" for part in first.parts.values())
    assert (manifest.promotion.figures.learned, manifest.promotion.figures.champion_learned) == (learned, learned)
    assert manifest.champion_metrics is not None
    assert manifest.champion_metrics["media"].macro_f1 == pytest.approx(first.metrics["media"].macro_f1)


@pytest.mark.parametrize("renamed", [1, 24])
def test_test_images_of_products_that_the_champion_knows_do_not_count(project: Project, renamed: int) -> None:
    examples = [replace(example, group=example.id) for example in project.examples(20)]
    first = train(project, examples)
    data = json.loads((first.version.path / "data.json").read_text())
    learned = sorted(image["id"] for image in data["images"] if image["part"] != "test")[:renamed]
    tested = sorted(id for id, part in first.parts.items() if part == "test")
    assert len(tested) == 24
    groups = dict(zip(tested, learned, strict=False))  # the test images get products whose images are gone
    random = np.random.default_rng(0)
    leaves = [path for path in project.tree.paths if len(path) == 2]
    kept = []
    for example in examples:
        part = first.parts[example.id]
        labels = example.labels if part == "test" else {"media": (leaves[random.integers(len(leaves))],)}
        if example.id not in learned:
            kept.append(
                replace(example, group=groups.get(example.id, example.id), labels=labels, part=part, trained=True)
            )
    second = train(project, kept)
    assert {id for id, part in second.parts.items() if part == "test"} == set(tested)
    if renamed == 1:
        assert not second.promoted
        assert second.reason.startswith("It is worse: hierarchical F1")
        assert "on 23 test images of 23 products (without 1 of products that v1 has learned from)" in second.reason
    else:
        assert second.promoted
        assert second.reason == (
            "No test image can compare the two, so it is served without a comparison: "
            "v1 has learned from products of 24 of 24 test images."
        )


def test_an_equal_challenger_is_promoted(project: Project) -> None:
    examples = project.examples(10)
    train(project, examples)
    assert train(project, examples).promoted
    assert (project.registry.champion("project-4"), project.registry.previous("project-4")) == ("v2", "v1")


@pytest.mark.parametrize("decide", ["rollback", "promote"])
def test_what_a_person_decides_while_it_trains_stands(project: Project, decide: str) -> None:
    examples = project.examples(10)
    train(project, examples)
    train(project, examples)
    if decide == "promote":
        project.registry.rollback("project-4")

    def person(step: str, share: float) -> None:
        if step == "publishing" and share < 1:
            if decide == "rollback":
                project.registry.rollback("project-4")
            else:
                project.registry.promote("project-4", "v2")

    outcome = train_project(
        "4", examples, [project.tree], project.store, None, project.registry, project.backbone, OPTIONS, person
    )
    assert not outcome.promoted
    assert outcome.reason == "Meanwhile another version was promoted, with which it was not compared."
    assert project.registry.champion("project-4") == ("v1" if decide == "rollback" else "v2")


def test_parts_are_fixed_for_life(project: Project) -> None:
    first = train(project, project.examples(5))
    again = [replace(example, part=first.parts.get(example.id)) for example in project.examples(15)]
    second = train(project, again)
    assert {id: second.parts[id] for id in first.parts} == dict(first.parts)
    assert list(second.parts.values()).count("test") == 18


def test_a_tree_that_changed_under_the_champion(project: Project) -> None:
    examples = project.examples(12)
    first = train(project, examples)
    renamed = tuple(
        tuple(name.replace("bath", "wc") for name in path) for path in project.tree.paths if path[-1] != "pipes-b"
    )
    project.tree = replace(project.tree, paths=(*renamed, ("new",)))
    second = train(project, [replace(example, part=first.parts[example.id]) for example in examples])
    # Labels of "bath" are gone with it, those of "pipes › pipes-b" stand at their parent.
    assert len(second.left_out) == 24
    assert '"bath › bath-a" is not in the taxonomy "media"' in second.left_out["bath-a-0"]
    assert second.version.head_manifest.data is not None
    assert second.version.head_manifest.data.count == 48
    promotion = second.version.head_manifest.promotion
    assert promotion is not None
    assert promotion.figures is not None
    assert promotion.figures.learned == promotion.figures.champion_learned  # of nodes that still exist
    assert second.promoted
    data = json.loads((second.version.path / "data.json").read_text())
    assert {"media": [["pipes"]]} in [image["labels"] for image in data["images"]]


@pytest.mark.slow
def test_champion_that_vanished_or_is_damaged_does_not_block(project: Project) -> None:
    examples = project.examples(8)
    first = train(project, examples)
    (first.version.path / "head.safetensors").write_bytes(b"x")
    second = train(project, examples)
    assert second.promoted
    assert "cannot be used" in second.reason
    assert project.registry.champion("project-4") == "v2"


@pytest.mark.slow
def test_champion_of_another_backbone(project: Project) -> None:
    examples = project.examples(10)
    train(project, examples)
    old_store, project.backbone = project.store, replace(project.backbone, version="v2")
    blind = train(project, examples)
    assert not blind.promoted
    assert "another backbone" in blind.reason
    judged = train_project(
        "4", examples, [project.tree], project.store, None, project.registry, project.backbone, OPTIONS,
        other_embeddings={"v1": old_store},
    )  # fmt: skip
    assert judged.promoted


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_images(project: Project, count: int) -> None:
    with pytest.raises(TrainingError, match="too few"):
        train(project, project.examples(1)[:count])
    assert project.registry.versions("project-4") == []


def test_one_label_only(project: Project) -> None:
    same = [replace(e, labels={"media": (("bath", "bath-a"),)}) for e in project.examples(2)]
    with pytest.raises(TrainingError, match="same label"):
        train(project, same)


def test_labels_on_one_path_only(project: Project) -> None:
    labels = [(("bath", "bath-a"),), (("bath",),)]
    nested = [replace(e, labels={"media": labels[n % 2]}) for n, e in enumerate(project.examples(2))]
    with pytest.raises(TrainingError, match=r"labels on one path \(bath › bath-a\)"):
        train(project, nested)


def test_too_few_images_for_the_reason_that_they_are_left_out(project: Project) -> None:
    examples = project.examples(4)
    gone = [replace(example, labels={"media": (("gone",),)}) for example in examples[2:]]
    with pytest.raises(TrainingError, match=rf"Only 2 of {len(examples)} .*not in the taxonomy") as error:
        train(project, [*examples[:2], *gone])
    assert f"{len(gone)} left out" in str(error.value.hint)


def test_four_images_are_enough_and_one_group_has_no_test_part(project: Project) -> None:
    assert train(project, project.examples(1)[:4]).promoted
    one_group = [replace(example, group="report 1") for example in project.examples(4)]
    outcome = train(project, one_group)
    assert set(outcome.parts.values()) == {"train"}
    assert outcome.metrics == {}
    assert not outcome.promoted
    assert "no test images" in outcome.reason
    json.loads((outcome.version.path / "curves.json").read_text())


def test_two_controls_of_which_an_image_may_have_one(project: Project) -> None:
    other = Tree("state", "image", "choices", (("new",), ("used",)))
    examples = []
    for i, example in enumerate(project.examples(20)):
        media = example.labels if i % 3 else {}
        state = {"state": (("new",) if i % 2 else ("used",),)} if i % 4 else {}
        examples.append(replace(example, labels={**media, **state}))
    outcome = train_project(
        "4", examples, [project.tree, other], project.store, None, project.registry, project.backbone, OPTIONS
    )
    assert set(outcome.metrics) == {"media", "state"}
    assert len(outcome.left_out) == 10
    assert set(outcome.left_out.values()) == {"It has no accepted label."}
    logits = HeadWeights.load(outcome.version.path / "head.safetensors").logits(np.zeros((3, 16), np.float32))
    assert {control: values.shape for control, values in logits.items()} == {"media": (3, 9), "state": (3, 2)}


def colour(number: int) -> bytes:
    """Return a red or blue picture, each a little different."""
    shade = (200 + number, 30, 30) if number % 2 else (30, 30, 200 + number)
    return encoded(Image.new("RGB", (80, 50), shade))


def coloured(count: int) -> list[Example]:
    return [Example(f"i{n}", {"media": (("bath",) if n % 2 else ("tools",),)}) for n in range(count)]


def test_from_pictures(project: Project, backbone: ModelVersion, tmp_path: Path) -> None:
    files = {f"i{n}": colour(n) for n in range(20)} | {"i4": b"broken", "i5": colour(5)[:60]}
    read: list[str] = []
    lock = threading.Lock()

    def read_picture(id: str) -> NDArray[Any]:
        with lock:
            read.append(id)
        if id == "i6":
            raise ImageNotFoundError("i6 is not there.")
        return prepare_image(files[id], SIZE)

    store = FolderEmbeddings(tmp_path / "real", 512)
    arguments = ([project.tree], store, read_picture, project.registry, backbone, OPTIONS)
    outcome = train_project("4", coloured(20), *arguments)
    assert outcome.left_out.keys() == {"i4", "i5", "i6"}
    assert "not an image" in outcome.left_out["i4"]
    assert outcome.left_out["i6"] == "i6 is not there."
    assert "- i6: i6 is not there." in (outcome.version.path / "report.md").read_text()
    assert sorted(read) == sorted(files)
    # Views of training images only, and all vectors are what serving would compute.
    ids, matrix = store.snapshot()
    training = {id for id, part in outcome.parts.items() if part == "train"} - outcome.left_out.keys()
    assert {id for id in ids if "#" in id} == {f"{id}#{n}" for id in training for n in (1, 2)}
    expected = Embedder(backbone.path / BACKBONE_FILE).embed(prepare_image(files["i3"], SIZE)[None])[0]
    np.testing.assert_allclose(matrix[ids.index("i3")], expected, rtol=2e-3, atol=2e-3)
    # The second time only what could not be read is tried again.
    read.clear()
    train_project("4", coloured(20), *arguments)
    assert sorted(read) == ["i4", "i5", "i6"]


def test_unreadable_picture_with_an_embedding_is_used(project: Project, backbone: ModelVersion) -> None:
    examples = project.examples(6)

    def gone(id: str) -> NDArray[Any]:
        raise ImageNotFoundError(f"{id} is gone.")

    more_views = replace(OPTIONS, views=3)
    outcome = train_project("4", examples, [project.tree], project.store, gone, project.registry, backbone, more_views)
    assert outcome.left_out == {}


def train_until_killed(folder: Path, tree: Tree, moment: int) -> None:
    """Train in a process of its own, which is killed when progress is said for that time."""
    project = Project(folder, tree)
    calls = itertools.count(1)

    def progress(_stage: str, _share: float) -> None:
        if next(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    train_project(
        "4",
        project.examples(5),
        [project.tree],
        project.store,
        None,
        project.registry,
        project.backbone,
        OPTIONS,
        progress,
    )


@pytest.mark.slow
def test_killed_at_any_moment_nothing_half_made_is_seen(project: Project) -> None:
    champion = train(project, project.examples(5)).version
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([train_until_killed.__module__])  # so that only the first one waits for torch
    for moment in (1, 2, 10, 32, 33):
        child = processes.Process(target=train_until_killed, args=(project.folder, project.tree, moment))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        fresh = FolderRegistry(project.folder / "models")
        assert fresh.champion("project-4") == champion.version
        for version in fresh.versions("project-4"):
            fresh.verify(version)
    assert train(project, project.examples(5)).promoted
