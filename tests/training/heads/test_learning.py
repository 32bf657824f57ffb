"""A project whose head is a discriminant: its version, what it serves, and beside a head of two layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.inference.heads.discriminant_weights import node_probabilities
from taxonomist.inference.heads.features import ProductProjection, features
from taxonomist.inference.serving_model import ServingModel, load_serving_model
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration import Calibration, fit_promise
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads import learning
from taxonomist.training.heads import train_project as train_project_module
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.data.targets import Labels
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.heads.train_project import TrainingOptions, TrainingOutcome, train_project
from taxonomist.training.product_space import TaughtSpace, scatter_of
from tests.training.conftest import Project

LDA = TrainingOptions(kind="lda")
ENSEMBLE = TrainingOptions(HeadOptions(hidden=16, threads=1, epochs=3), kind="ensemble")
MLP = TrainingOptions(HeadOptions(hidden=16, threads=1, epochs=3), views=0)


def train(project: Project, examples: list[Example], options: TrainingOptions = LDA) -> TrainingOutcome:
    return train_project(
        "4", examples, [project.tree], project.store, None, project.registry, project.backbone, options
    )


def test_a_version_has_no_validation_part_and_no_curves(project: Project) -> None:
    outcome = train(project, project.examples(20))
    version = outcome.version
    assert outcome.promoted
    assert outcome.metrics["media"].levels[1].accuracy > 0.9
    assert set(version.files) == {
        "head.safetensors", "report.json", "report.md", "data.json", "outcomes.json",
        "confusion-media-1.png", "confusion-media-2.png", "confusion-media-1.csv", "confusion-media-2.csv",
    }  # fmt: skip
    data = json.loads((version.path / "data.json").read_text())
    assert {image["part"] for image in data["images"]} == {"train", "test"}
    assert "## Training images by models without their products, media" in (version.path / "report.md").read_text()
    assert version.head_manifest.settings["kind"] == "lda"


def check_served(model: ServingModel, project: Project, examples: list[Example]) -> NDArray[np.float32]:
    """Check the calibration and the suggestions of a model; return the embeddings (n, d) of the examples."""
    calibration = model.calibrations["media"]
    assert calibration.thresholds[0] == calibration.thresholds[1] < 1
    assert calibration.support[0] == 96  # all but the test part
    _, vectors = project.store.get([example.id for example in examples])
    suggestions = model.suggestions(vectors)
    right = [
        suggestion["media"].path == example.labels["media"][0]
        for suggestion, example in zip(suggestions, examples, strict=True)
        if suggestion
    ]
    assert len(right) > 100
    assert np.mean(right) > 0.9
    return vectors


def test_what_it_serves(project: Project) -> None:
    examples = project.examples(20)
    model = load_serving_model(train(project, examples).version)
    vectors = check_served(model, project, examples)
    np.testing.assert_allclose(
        model.probabilities(vectors)["media"][:, np.flatnonzero(project.tree.levels == 1)].sum(axis=1), 1, rtol=1e-5
    )


def test_shortlists_rest_on_images_that_were_drawn_at_random(tmp_path: Path) -> None:
    tops: list[TaxonomyPath] = [(top,) for top in "ab"]
    tree = Tree("media", "image", "taxonomy", (*tops, *((top, name) for top in "ab" for name in "vwxyz")))
    project = Project(tmp_path, tree)
    examples = project.examples(20, noise=2.0)
    lists = [
        train(project, [replace(example, at_random=at_random) for example in examples])
        .version.head_manifest.calibration["media"]
        .shortlists
        for at_random in (True, False)
    ]
    assert np.isfinite(lists[0][1])
    assert np.isinf(lists[1]).all()


def test_an_ensemble_is_calibrated_on_all_that_it_learns_from_and_served(project: Project) -> None:
    examples = project.examples(20)
    outcome = train(project, examples, ENSEMBLE)
    assert outcome.promoted
    assert "curves.png" not in outcome.version.files
    report = (outcome.version.path / "report.md").read_text()
    assert "## Training images by models without their products, media" in report
    model = load_serving_model(outcome.version)
    check_served(model, project, examples)
    second = train(project, [replace(example, part=outcome.parts[example.id]) for example in examples])
    assert second.champion_metrics == outcome.metrics  # the gate reads it


def test_an_ensemble_promises_what_both_of_its_parts_predict(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated_on = []

    def spy(tree: Tree, probabilities: FloatArray, *judged: Any, **options: Any) -> Calibration:
        calibrated_on.append(probabilities)
        return fit_promise(tree, probabilities, *judged, **options)

    monkeypatch.setattr(learning, "fit_promise", spy)
    examples = project.examples(20, noise=2.0)
    for options in (LDA, ENSEMBLE):
        train(project, examples, options)
    discriminant, ensemble = calibrated_on
    layers = 2 * ensemble - discriminant
    assert np.abs(layers - discriminant).max() > 0.1
    np.testing.assert_allclose(layers[:, np.flatnonzero(project.tree.levels == 1)].sum(axis=1), 1, atol=1e-5)


def test_figures_of_prefilled_and_unfilled_tasks_are_shown_apart(project: Project) -> None:
    examples = project.examples(20)
    parts = train(project, examples).parts
    assert "pre-filled" not in (project.registry.get("project-4", "v1").path / "report.md").read_text()
    tested = [id for id, part in parts.items() if part == "test"]
    wrong: Labels = {"media": (("bath", "bath-a"),)}
    is_unfilled = {example.id: example.id in tested[:6] for example in examples}
    examples = [
        replace(
            example,
            part=parts[example.id],
            labels=wrong if is_unfilled[example.id] else example.labels,
            prefilled=frozenset() if is_unfilled[example.id] else frozenset({"media"}),
        )
        for example in examples
    ]
    folder = train(project, examples).version.path
    report = json.loads((folder / "report.json").read_text())
    apart = {name: found["media"] for name, found in report["test_by_prefilling"].items()}
    assert {name: found["levels"][0]["support"] for name, found in apart.items()} == {
        "pre-filled": len(tested) - 6,
        "unfilled": 6,
    }
    assert apart["pre-filled"]["hierarchical_f1"] > 0.9 > apart["unfilled"]["hierarchical_f1"]
    rows = [line for line in (folder / "report.md").read_text().splitlines() if line.startswith(("| pre", "| unf"))]
    assert rows[1].startswith(f"| unfilled | 6 | {apart['unfilled']['hierarchical_f1']:.3f} |")


def test_few_labels_promise_nothing(project: Project) -> None:
    outcome = train(project, project.examples(2))
    thresholds = outcome.version.head_manifest.calibration["media"].thresholds
    assert all(np.isinf(thresholds))


def test_the_promise_is_chosen_or_follows_from_the_number_of_labels(project: Project) -> None:
    examples = project.examples(3)
    found = {
        promise: train(project, examples, replace(LDA, promise=promise)).version.head_manifest.calibration["media"]
        for promise in (None, "sure", "average")
    }
    assert [found[promise].promise for promise in (None, "sure", "average")] == ["average", "sure", "average"]
    assert found["average"].suggests_paths
    assert not found["sure"].suggests_paths


def test_the_report_says_what_is_suggested(project: Project) -> None:
    version = train(project, project.examples(2)).version
    calibration = version.head_manifest.calibration["media"]
    assert f"- Suggestions, media: {calibration.describe()}." in (version.path / "report.md").read_text()


def test_only_images_that_were_drawn_at_random_calibrate(project: Project) -> None:
    examples = [replace(example, at_random=number % 2 == 0) for number, example in enumerate(project.examples(20))]
    support = []
    for options in (LDA, MLP):
        outcome = train(project, examples, options)
        manifest, data = outcome.version.head_manifest, json.loads((outcome.version.path / "data.json").read_text())
        calibrating = "train" if options is LDA else "validation"
        role = {image["id"]: image["part"] for image in data["images"]}
        drawn = [example for example in examples if example.at_random and role[example.id] == calibrating]
        support.append((manifest.calibration["media"].support[0], len(drawn)))
    assert all(0 < counted == expected for counted, expected in support)


@pytest.mark.parametrize("options", [LDA, MLP])
def test_what_was_labelled_in_one_action_neither_tests_nor_calibrates(
    project: Project, options: TrainingOptions
) -> None:
    """Every second image; of these, some tested before."""
    examples = [
        replace(example, bulk=number % 2 == 0, part="test" if number % 10 == 0 else None)
        for number, example in enumerate(project.examples(20))
    ]
    outcome = train(project, examples, options)
    manifest, data = outcome.version.head_manifest, json.loads((outcome.version.path / "data.json").read_text())
    bulk = {example.id for example in examples if example.bulk}
    role = {image["id"]: image["part"] for image in data["images"]}
    assert "test" not in {role.get(id) for id in bulk}
    assert "train" in {role.get(id) for id in bulk}
    left_out = {id for id in bulk if outcome.parts[id] == "test"}
    assert left_out == outcome.left_out.keys() != set()
    calibrating = {id for id, part in role.items() if part == ("train" if options is LDA else "validation")}
    assert manifest.calibration["media"].support[0] == len(calibrating - bulk) > 0


def test_either_kind_can_be_compared_with_the_other(project: Project) -> None:
    examples = project.examples(20)
    first = train(project, examples, MLP)
    second = train(project, [replace(example, part=first.parts[example.id]) for example in examples])
    assert second.champion == "v1"
    assert second.champion_metrics is not None
    assert second.promoted
    third = train(project, [replace(example, part=first.parts[example.id]) for example in examples], MLP)
    assert third.champion == "v2"
    assert third.champion_metrics == second.metrics


def test_a_control_without_labels_costs_no_other(project: Project) -> None:
    other = Tree("shape", "image", "choices", (("round",), ("square",)))
    examples = project.examples(20)
    outcome = train_project(
        "4", examples, [project.tree, other], project.store, None, project.registry, project.backbone, LDA
    )
    model = load_serving_model(outcome.version)
    _, vectors = project.store.get([examples[0].id])
    assert model.suggestions(vectors)[0].keys() == {"media"}
    assert outcome.metrics.keys() == {"media"}


def test_the_same_labels_in_any_order_give_the_same_head(project: Project) -> None:
    examples = project.examples(10)
    one, two = train(project, examples), train(project, examples[::-1])
    assert one.parts == two.parts
    assert one.version.files["head.safetensors"] == two.version.files["head.safetensors"]


def in_products(
    project: Project, labels: list[str], companions: int, spread: float | Sequence[float] = 4.0
) -> tuple[list[Example], dict[str, list[str]]]:
    """Return two noisy images of each of 60 products, and the ids of others without labels.

    `spread` is the size of the noise, or that of each number. The label of an image is its leaf where `labels` says
    "same", else that of another level-1 node.
    """
    random = np.random.default_rng(5)
    leaves = [path for path in project.tree.paths if len(path) == 2]
    centres = np.random.default_rng(99).normal(size=(len(leaves), 16)) * 2
    examples, others = [], {}
    for number in range(60):
        leaf = number % len(leaves)
        ids = [f"{number}-{image}" for image in range(2 + companions)]
        project.store.append(
            ids, (centres[leaf] + np.array(spread) * random.normal(size=(len(ids), 16))).astype(np.float32)
        )
        others[f"p{number}"] = ids[2:]
        for id, label in zip(ids[:2], labels, strict=True):
            path = leaves[leaf if label == "same" else (leaf + 2) % len(leaves)]
            examples.append(Example(id, {"media": (path,)}, group=f"p{number}", part="train"))
    return examples, others


def learned(
    project: Project,
    examples: list[Example],
    companions: dict[str, list[str]],
    taught: TaughtSpace | None = None,
    options: TrainingOptions = LDA,
) -> ModelVersion:
    return train_project(
        "4",
        [*examples, *(replace(example, part="test") for example in project.examples(2))],
        [project.tree],
        project.store,
        None,
        project.registry,
        project.backbone,
        options,
        companions=companions,
        taught=taught,
    ).version


def test_labels_count_for_the_other_images_of_their_product(project: Project) -> None:
    examples, others = in_products(project, ["same", "same"], 8)
    alone, shared = (learned(project, examples, companions) for companions in ({}, others))
    purity = json.loads((shared.path / "manifest.json").read_text())["purity"]["media"]
    assert [(level["groups"], level["agreement"]) for level in purity] == [(60, 1.0), (60, 1.0)]
    held = project.examples(60, noise=4.0, seed=8)
    _, vectors = project.store.get([example.id for example in held])
    truths = [project.tree.index[example.labels["media"][0]] for example in held]

    def right(version: ModelVersion) -> float:
        probabilities = load_serving_model(version).probabilities(vectors)["media"]
        leaves = np.flatnonzero(project.tree.levels == 2)
        return float(np.mean(leaves[probabilities[:, leaves].argmax(axis=1)] == truths))

    assert right(shared) > right(alone) + 0.02
    # Those who calibrate have labels of their own.
    assert shared.head_manifest.calibration["media"].support == (120, 120)


def test_labels_of_products_that_show_several_things_count_for_no_other_image(project: Project) -> None:
    examples, others = in_products(project, ["same", "other"], 3)
    alone, mixed = (learned(project, examples, companions) for companions in ({}, others))
    assert mixed.files["head.safetensors"] == alone.files["head.safetensors"]


def test_images_of_a_product_are_predicted_together(project: Project) -> None:
    examples, others = in_products(project, ["same", "same"], 8)
    tested = [replace(example, part="test") for example in examples[:12]]
    version = learned(project, [*examples[12:], *tested], others)
    manifest = version.head_manifest
    assert manifest.fused["media"].suggests_paths
    assert manifest.fused["media"].labels == len(examples) - 12
    said = (version.path / "report.md").read_text()
    assert "- Suggestions, media, several images of a product together: paths with" in said
    assert "- 12 test images have others of their product in the test part." in said
    model = load_serving_model(version)
    ids = [example.id for example in tested[::2]]
    _, vectors = project.store.get(ids)
    more = [project.store.get(others[str(example.group)])[1] for example in tested[::2]]
    alone, together = model.suggestions(vectors), model.suggestions(vectors, more)
    truths = [example.labels["media"][0] for example in tested[::2]]
    assert [found["media"].path for found in together] == truths
    assert {found["media"].images for found in together} == {9}
    assert [found.get("media") and found["media"].path for found in alone] != truths
    assert model.suggestions(vectors, [row[:0] for row in more]) == alone
    assert model.with_floors({"media": 1.1}).suggestions(vectors, more) == [{}] * 6


def test_products_that_show_several_things_are_not_predicted_together(project: Project) -> None:
    examples, others = in_products(project, ["same", "other"], 8)
    version = learned(project, examples, others)
    assert version.head_manifest.fused == {}
    assert "fusion.safetensors" not in version.files


UNEVEN = [12.0] * 10 + [0.4] * 6
"""Noise that products teach to leave out."""


def taught_by(project: Project, products: dict[str, list[str]], *, worse: bool = False) -> TaughtSpace:
    """Return the space that images of products teach; `worse` leaves only the direction that tells least."""
    found = TaughtSpace.of(scatter_of((project.store.get(ids)[1], [name] * len(ids)) for name, ids in products.items()))
    assert found is not None
    matrix = found.space.matrix[:, -1:] if worse else found.space.matrix[:, :5]
    return replace(found, space=ProductProjection(found.space.mean, np.ascontiguousarray(matrix)))


@pytest.mark.parametrize("options", [LDA, ENSEMBLE])
def test_a_space_is_served_as_it_was_learned(
    project: Project, monkeypatch: pytest.MonkeyPatch, options: TrainingOptions
) -> None:
    examples, others = in_products(project, ["same", "same"], 8, UNEVEN)
    tested = [replace(example, part="test") for example in examples[:12]]
    taught = taught_by(project, {example.group: others[example.group] for example in examples[12:] if example.group})
    kept: list[learning.Learned] = []

    def spy(*arguments: Any) -> learning.Learned:
        kept.append(learning.learn(*arguments))
        return kept[-1]

    monkeypatch.setattr(train_project_module, "learn", spy)
    version = learned(project, [*examples[12:], *tested], others, taught, options)
    figures = version.head_manifest.spaces["media"]
    assert figures.served
    assert figures.log_loss[1] < figures.log_loss[0]
    assert (figures.products, figures.dimension) == (54, 5)
    said = (version.path / "report.md").read_text()
    assert f"- media is predicted in a space of 5 numbers learned from {figures.images} images of 54 products." in said
    model = load_serving_model(version)
    assert model.head.dimension == 16
    _, x = project.store.get([example.id for example in tested])
    trees = {"media": project.tree}
    expected = np.exp(kept[0].head.log_probabilities(x, trees, {})["media"])
    np.testing.assert_array_equal(model.probabilities(x)["media"], expected)
    head: Any = kept[0].head
    discriminant = (head.discriminant if options is ENSEMBLE else head).discriminants["media"]
    assert discriminant.space is not None
    scores = features(x, taught.space) @ discriminant.weight.T + discriminant.bias
    by_hand = node_probabilities(scores, discriminant.nodes, discriminant.parents)
    np.testing.assert_allclose(discriminant.probabilities(x), by_hand, rtol=1e-5)
    if options is LDA:
        assert version.head_manifest.fused["media"].suggests_paths
        more = [project.store.get(others[str(example.group)])[1] for example in tested]
        truths = [example.labels["media"][0] for example in tested]
        assert [found["media"].path for found in model.suggestions(x, more)] == truths


def test_what_products_share_is_learned_in_the_space(project: Project) -> None:
    examples, others = in_products(project, ["same", "same"], 8)
    taught = taught_by(project, others)
    alone, shared = (learned(project, examples, companions, taught) for companions in ({}, others))
    losses = [version.head_manifest.spaces["media"].log_loss for version in (alone, shared)]
    assert losses[1][1] < losses[0][1]  # labels are likelier where the other images are known, in the space, too
    assert alone.files["head.safetensors"] != shared.files["head.safetensors"]


def test_a_space_in_which_labels_are_less_likely_changes_nothing(project: Project) -> None:
    examples, others = in_products(project, ["same", "same"], 8)
    plain = learned(project, examples, others)
    refused = learned(project, examples, others, taught_by(project, others, worse=True))
    assert not refused.head_manifest.spaces["media"].served
    assert plain.head_manifest.spaces == {}
    for name in ("head.safetensors", "fusion.safetensors"):
        assert refused.files[name] == plain.files[name]
    assert refused.head_manifest.calibration == plain.head_manifest.calibration
    assert "- media is predicted without a space of 1 numbers" in (refused.path / "report.md").read_text()


def test_champions_with_and_without_a_space_are_compared(project: Project) -> None:
    examples, others = in_products(project, ["same", "same"], 8, UNEVEN)
    tested = [replace(example, part="test") for example in examples[:40]]
    taught = taught_by(project, others)
    versions = [learned(project, [*examples[40:], *tested], others, given) for given in (None, taught, None)]
    assert [bool(version.head_manifest.spaces) for version in versions] == [False, True, False]
    metrics = [version.head_manifest.metrics["media"] for version in versions]
    for champion, version in zip(metrics, versions[1:], strict=False):
        found = version.head_manifest.champion_metrics
        assert found is not None
        assert found["media"] == champion
    assert metrics[0] != metrics[1]
