import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.registry import ModelVersion, Registry, folder
from storage.registry.folder import FolderRegistry
from taxonomy.errors import DamagedError, NotFoundError, StorageError

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., list[str]]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return FolderRegistry(tmp_path / "models")


def publish(registry: Registry, text: str = "weights", name: str = "project-4") -> ModelVersion:
    with registry.stage(name) as staged:
        (staged / "head.safetensors").write_text(text)
        (staged / "report").mkdir()
        (staged / "report" / "curves.json").write_text("[1]")
        return registry.publish(name, staged, {"kind": "head", "project": "4"})


def test_a_version_is_a_folder_with_a_manifest(registry: Registry, tmp_path: Path) -> None:
    version = publish(registry)
    assert (version.name, version.version) == ("project-4", "v1")
    assert (version.path / "report" / "curves.json").read_text() == "[1]"
    assert version.manifest["kind"] == "head"
    assert version.manifest["files"]["head.safetensors"] == {
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "size": 7,
    }
    assert set(version.manifest["files"]) == {"head.safetensors", "report/curves.json"}
    assert registry.get("project-4", "v1") == version
    registry.verify(version)
    assert sorted(path.name for path in (tmp_path / "models" / "project-4").iterdir()) == ["v1"]


def test_versions_are_numbered_and_listed_in_order(registry: Registry) -> None:
    assert registry.versions("project-4") == []
    assert registry.names() == []
    made = [publish(registry, str(number)).version for number in range(11)]
    assert made == [version.version for version in registry.versions("project-4")]
    assert made[-1] == "v11"
    publish(registry, name="Küche 2")
    assert registry.names() == ["Küche 2", "project-4"]


def test_a_folder_from_elsewhere_is_copied(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "backbone.onnx").write_bytes(b"onnx")
    version = registry.publish("backbone", tmp_path / "mine", {})
    assert (version.path / "backbone.onnx").read_bytes() == b"onnx"
    assert (tmp_path / "mine" / "backbone.onnx").exists()


def test_nothing_is_left_of_what_was_not_published(registry: Registry, tmp_path: Path) -> None:
    with registry.stage("project-4") as staged:
        (staged / "head.safetensors").write_text("half")
    assert registry.versions("project-4") == []
    assert list((tmp_path / "models" / "project-4").iterdir()) == []


def test_champion_previous_and_back(registry: Registry) -> None:
    assert (registry.champion("project-4"), registry.previous("project-4")) == (None, None)
    with pytest.raises(NotFoundError):
        registry.rollback("project-4")
    for text in "abc":
        publish(registry, text)
    registry.promote("project-4", "v1")
    assert (registry.champion("project-4"), registry.previous("project-4")) == ("v1", None)
    with pytest.raises(NotFoundError, match="no previous"):
        registry.rollback("project-4")
    registry.promote("project-4", "v3")
    registry.promote("project-4", "v3")
    assert (registry.champion("project-4"), registry.previous("project-4")) == ("v3", "v1")
    assert registry.rollback("project-4") == "v1"
    assert (registry.champion("project-4"), registry.previous("project-4")) == ("v1", "v3")
    assert registry.rollback("project-4") == "v3"


def test_the_stamp_changes_with_the_aliases(registry: Registry) -> None:
    stamps = [registry.alias_stamp("project-4")]
    publish(registry)
    publish(registry)
    publish(registry, name="project-5")
    for version in ("v1", "v2", "v1"):
        registry.promote("project-4", version)
        stamps.append(registry.alias_stamp("project-4"))
    assert len(set(stamps)) == 4
    registry.promote("project-5", "v1")
    assert registry.alias_stamp("project-4") == stamps[-1]


def test_what_does_not_exist(registry: Registry) -> None:
    publish(registry)
    for name, version in [("project-4", "v2"), ("project-5", "v1"), ("project-4", "../v1"), ("..", "v1"), ("", "v1")]:
        with pytest.raises(NotFoundError):
            registry.get(name, version)
    with pytest.raises(NotFoundError, match="There are: v1"):
        registry.promote("project-4", "v9")
    assert registry.champion("project-4") is None


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a\\b", "x" * 300, "a\0b"])
def test_names_that_lead_elsewhere_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(NotFoundError), registry.stage(name):
        pass


@pytest.mark.parametrize(
    ("damage", "quick"),
    [
        (lambda path: (path / "head.safetensors").write_text("WEIGHTS"), False),
        (lambda path: (path / "head.safetensors").write_text("weight"), True),
        (lambda path: (path / "head.safetensors").unlink(), True),
        (lambda path: (path / "manifest.json").write_text('{"files": '), True),
        (lambda path: (path / "manifest.json").write_text("[]"), True),
        (
            lambda path: (path / "manifest.json").write_text(
                (path / "manifest.json").read_text().replace('"project": "4"', '"project": "5"')
            ),
            True,
        ),
    ],
)
def test_damage_is_noticed_and_never_promoted(
    registry: Registry, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], quick: bool
) -> None:
    publish(registry)
    registry.promote("project-4", "v1")
    version = publish(registry)
    damage(version.path)
    with pytest.raises(DamagedError):
        registry.verify(version)
    with pytest.raises(DamagedError):
        registry.promote("project-4", "v2")
    assert registry.champion("project-4") == "v1"
    if quick:
        with pytest.raises(DamagedError):
            registry.get("project-4", "v2")
        assert [version.version for version in registry.versions("project-4")] == ["v1"]
        assert "v2" in caplog.text


def test_a_half_written_version_is_invisible_and_its_number_not_used(registry: Registry, tmp_path: Path) -> None:
    publish(registry)
    half = tmp_path / "models" / "project-4" / "v2"
    half.mkdir()
    (half / "head.safetensors").write_text("half")
    assert [version.version for version in registry.versions("project-4")] == ["v1"]
    with pytest.raises(NotFoundError):
        registry.get("project-4", "v2")
    assert publish(registry).version == "v3"


def test_what_died_is_cleaned_after_a_day(registry: Registry, tmp_path: Path) -> None:
    place = tmp_path / "models" / "project-4"
    for name in (".staging-dead", "v7"):
        (place / name).mkdir(parents=True)
        (place / name / "head.safetensors").write_text("half")
    publish(registry)
    assert (place / ".staging-dead").exists()
    two_days_ago = time.time() - 2 * 86_400
    for path in [*place.glob("v7/*"), place / "v7", *place.glob(".staging-dead/*"), place / ".staging-dead"]:
        os.utime(path, (two_days_ago, two_days_ago))
    publish(registry)
    assert sorted(path.name for path in place.iterdir()) == ["v8", "v9"]


@pytest.mark.parametrize("name", ["model.pt", "model.PKL", "deep.joblib"])
def test_pickles_are_refused(registry: Registry, name: str) -> None:
    with registry.stage("project-4") as staged:
        (staged / name).write_bytes(b"\x80\x04N.")
        with pytest.raises(StorageError, match="pickle"):
            registry.publish("project-4", staged, {})
    assert registry.versions("project-4") == []


def test_links_are_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with registry.stage("project-4") as staged:
        (staged / "head.safetensors").symlink_to(tmp_path / "secret")
        with pytest.raises(StorageError, match="link"):
            registry.publish("project-4", staged, {})


@pytest.mark.parametrize(
    "damage",
    ['{"project-4": ', "[]", '{"project-4": {"champion": 4, "before": {}, "changes": 1}}', '{"project-4": "v1"}'],
)
def test_aliases_that_cannot_be_read_are_told(registry: Registry, tmp_path: Path, damage: str) -> None:
    publish(registry)
    (tmp_path / "models" / "aliases.json").write_text(damage)
    with pytest.raises(DamagedError, match="promote the versions to serve again"):
        registry.champion("project-4")
    with pytest.raises(DamagedError):
        registry.promote("project-4", "v1")
    (tmp_path / "models" / "aliases.json").unlink()
    registry.promote("project-4", "v1")
    assert registry.champion("project-4") == "v1"


def test_a_publisher_that_is_killed_leaves_whole_versions_only(tmp_path: Path, start_worker: Start) -> None:
    registry = FolderRegistry(tmp_path)
    process = start_worker("publish_for_ever", tmp_path)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(5)]
    process.kill()
    said += [line.strip() for line in process.stdout.readlines() if line.endswith("\n")]
    versions = registry.versions("project-4")
    assert {version.version for version in versions} >= set(said)
    for version in versions:
        registry.verify(version)
    champion = registry.champion("project-4")
    assert champion is not None
    assert int(champion[1:]) >= int(said[-1][1:])
    assert publish(registry).version not in said


def test_publishers_at_once_all_succeed(tmp_path: Path, start_worker: Start) -> None:
    registry = FolderRegistry(tmp_path)
    processes = [start_worker("publish_some", tmp_path, 10) for _ in range(3)]
    said = [line for process in processes for line in process.communicate()[0].split()]
    assert sorted(said) == sorted(f"v{number}" for number in range(1, 31))
    writers = [version.manifest["writer"] for version in registry.versions("project-4")]
    assert len(set(writers)) == 30
    for version in registry.versions("project-4"):
        assert (version.path / "head.safetensors").read_text() == version.manifest["writer"]


def test_a_number_that_another_publisher_just_took(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(registry, "theirs")
    # What a publisher sees that looked before the other one was done.
    with monkeypatch.context() as patch:
        patch.setattr(folder, "_numbers", lambda *_, **__: [])
        assert publish(registry, "ours").version == "v2"
    texts = [(version.path / "head.safetensors").read_text() for version in registry.versions("project-4")]
    assert texts == ["theirs", "ours"]


def test_a_full_disk_publishes_nothing(tmp_path: Path, run_worker: Run) -> None:
    registry = FolderRegistry(tmp_path)
    publish(registry)
    (refused,) = run_worker("publish_when_full", tmp_path, 20_000)
    assert refused.startswith("refused: No room to write")
    assert [version.version for version in registry.versions("project-4")] == ["v1"]
    assert [path.name for path in (tmp_path / "project-4").iterdir()] == ["v1"]


def test_the_manifest_is_plain_json(registry: Registry) -> None:
    version = publish(registry)
    manifest = json.loads((version.path / "manifest.json").read_text())
    assert manifest == version.manifest
    assert manifest["name"] == "project-4"
    assert manifest["published_at"].endswith("+00:00")
