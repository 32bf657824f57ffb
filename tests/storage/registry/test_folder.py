"""The registry in a folder: its layout on the disk, and the state that a killed process leaves."""

import errno
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.storage.registry import Registry, folder
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.storage.registry.manifest_file import sealed
from taxonomist.taxonomy.errors import NotFoundError, StorageError
from tests.storage.registries import publish

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., list[str]]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return FolderRegistry(tmp_path / "models")


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


def test_a_folder_of_early_releases_opens(registry: Registry, tmp_path: Path) -> None:
    """Neither its manifests nor its aliases name a format; a model could even have the name "format"."""
    version = publish(registry, name="format")
    manifest = {key: value for key, value in version.manifest.items() if key != "format"}
    (version.path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    aliases = tmp_path / "models" / "aliases.json"
    aliases.write_text('{"format": {"champion": "v1", "before": {"format": null}, "changes": 1}}')
    assert registry.champion("format") == "v1"
    registry.verify(registry.get("format", "v1"))
    registry.promote("format", publish(registry, "new", name="format").version)
    assert json.loads(aliases.read_text()) == {
        "format": 2,
        "aliases": {
            "format": {
                "champion": "v2",
                "before": {"format": "v1"},
                "changes": 2,
                "number": 1,
                "earlier": [{"number": 0, "before": {"format": None}}],
                "last": 0,
            }
        },
    }
    assert FolderRegistry(tmp_path / "models").champion("format") == "v2"


def test_nothing_is_left_of_what_was_not_published(registry: Registry, tmp_path: Path) -> None:
    with registry.stage("project-4") as staged:
        (staged / "head.safetensors").write_text("half")
    assert registry.versions("project-4") == []
    assert list((tmp_path / "models" / "project-4").iterdir()) == []


def test_no_room_for_the_files_of_a_version_is_said_in_words(registry: Registry) -> None:
    with pytest.raises(StorageError) as raised, registry.stage("project-4"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a file object raises it
    assert "project-4 (No space left on device). Make room on the disk." in str(raised.value)


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
