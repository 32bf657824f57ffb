"""Required and optional fields of a manifest; an error names each missing field."""

from pathlib import Path
from typing import Any

import pytest

from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration.thresholds import Calibration
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.tree import Tree

TREE = Tree.from_paths("colour", [("Warm", "Red"), ("Cold",)])
CALIBRATION = Calibration(temperature=1.5, thresholds=(0.5, float("inf")), target_precision=0.9, support=(40, 0))
BACKBONE = {"kind": "backbone", "architecture": "resnet18", "size": 160, "dimension": 512}
HEAD = {
    "kind": "head",
    "backbone": "v1",
    "trees": [TREE.to_json()],
    "calibration": {"colour": CALIBRATION.to_json()},
}
# As a home of an early release has it, without a number of its format.
OLD_HEAD = {
    **HEAD,
    "project": "7",
    "metrics": {
        "colour": {
            "levels": [{"level": 1, "support": 16, "accuracy": 0.75, "macro_f1": 0.7}],
            "hierarchical_precision": 0.8,
            "hierarchical_recall": 0.7,
            "hierarchical_f1": 0.75,
            "mean_depth": 1.5,
            "macro_f1": 0.7,
        }
    },
    "champion_metrics": None,
    "promotion": {"promoted": True, "reason": "It is the first model of the project."},
    "settings": {"head": {"hidden": 32}, "views": 4},
    "created_at": "2026-11-20T10:00:00+00:00",
    "data": {"fingerprint": "abc", "count": 80, "left_out": 1},
    "duration_s": 3.5,
    "name": "project-7",
    "files": {"head.safetensors": {"sha256": "00", "size": 7}},
    "published_at": "2026-11-20T10:00:00+00:00",
    "digest": "11",
}


def version(manifest: dict[str, Any]) -> ModelVersion:
    return ModelVersion("project-7", "v1", Path("models") / "project-7" / "v1", manifest)


def test_a_head_of_an_early_release() -> None:
    head = version(OLD_HEAD).head_manifest
    assert (head.project, head.backbone, head.trees, head.calibration) == ("7", "v1", (TREE,), {"colour": CALIBRATION})
    assert head.trees_by_control == {"colour": TREE}
    assert (head.metrics["colour"].macro_f1, head.metrics["colour"].levels[0].accuracy) == (0.7, 0.75)
    assert head.promotion is not None
    assert head.data is not None
    assert (head.promotion.promoted, head.data.count, head.data.left_out) == (True, 80, 1)
    assert version(OLD_HEAD).files["head.safetensors"].size == 7


def test_a_head_needs_only_what_serving_needs() -> None:
    head = version(HEAD).head_manifest
    assert (head.metrics, head.promotion, head.data) == ({}, None, None)


def test_a_backbone_keeps_the_unknown_keys_of_its_pretraining() -> None:
    summary = {"seen": 256, "data": {"count": 64, "size": 96, "sha256": "00"}, "spread": 0.9}
    backbone = version({**BACKBONE, "origin": "MoCo v2", "pretraining": summary, "more": 1}).backbone_manifest
    assert (backbone.size, backbone.dimension, backbone.origin, backbone.starter) == (160, 512, "MoCo v2", False)
    assert backbone.pretraining is not None
    assert backbone.pretraining.model_dump(mode="json", exclude_unset=True) == summary


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "head"}, "kind"),
        ({"size": None}, "size"),
        ({"size": 0}, "size"),
        ({"size": 100_000}, "size"),
        ({"dimension": -1}, "dimension"),
        ({"architecture": 18}, "architecture"),
        ({"pretraining": {"data": {"count": "many"}}}, "pretraining.data.count"),
    ],
)
def test_what_is_wrong_with_a_backbone_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(
        DamagedError, match=rf"v1/manifest\.json is not the manifest of a backbone \({field}: .*Roll back"
    ):
        _ = version({**BACKBONE, **change}).backbone_manifest


@pytest.mark.parametrize("field", sorted(BACKBONE))
def test_what_a_backbone_lacks_is_named(field: str) -> None:
    manifest = {key: value for key, value in BACKBONE.items() if key != field}
    with pytest.raises(DamagedError, match=rf"backbone \({field}: Field required\)"):
        _ = version(manifest).backbone_manifest


@pytest.mark.parametrize("field", sorted(HEAD))
def test_what_a_head_lacks_is_named(field: str) -> None:
    manifest = {key: value for key, value in HEAD.items() if key != field}
    with pytest.raises(DamagedError, match=rf"project-7/v1/manifest\.json is not the manifest of a head \({field}: "):
        _ = version(manifest).head_manifest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trees": [{}]}, r"trees\.0"),
        ({"trees": ["colour"]}, r"trees\.0"),
        ({"trees": [{**TREE.to_json(), "paths": [["Warm", "Red"]]}]}, r"trees\.0"),
        ({"calibration": {"colour": {}}}, r"calibration\.colour"),
        ({"calibration": {"colour": 1}}, r"calibration\.colour"),
        ({"backbone": None}, "backbone"),
        ({"data": {"fingerprint": "a", "count": -1}}, r"data\.count"),
    ],
)
def test_what_is_wrong_with_a_head_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(DamagedError, match=rf"manifest of a head \({field}: "):
        _ = version({**HEAD, **change}).head_manifest


@pytest.mark.parametrize("files", [None, [], {"a": {"size": 1}}, {"a": {"sha256": "00", "size": -1}}])
def test_what_is_wrong_with_the_files_is_named(files: object) -> None:
    with pytest.raises(DamagedError, match=r"manifest\.json is not the manifest of a version \(files"):
        _ = version({"files": files}).files
