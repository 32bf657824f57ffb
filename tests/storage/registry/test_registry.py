"""Behaviour of every registry, in a folder and in Azure."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.storage.registry import Registry
from taxonomist.storage.registry.manifest_file import sealed
from taxonomist.taxonomy.errors import DamagedError, NotFoundError, StorageError
from tests.storage.registries import Place, publish


@pytest.fixture
def registry(place: Place) -> Registry:
    return place.open()


def test_a_version_has_its_files_and_a_manifest(place: Place, registry: Registry) -> None:
    version = publish(registry)
    for there in (version, registry.get("project-4", "v1"), place.open().get("project-4", "v1")):
        assert (there.name, there.version) == ("project-4", "v1")
        assert (there.path / "head.safetensors").read_text() == "weights"
        assert (there.path / "report" / "curves.json").read_text() == "[1]"
        assert there.manifest == version.manifest
    assert version.manifest["kind"] == "head"
    assert version.manifest["name"] == "project-4"
    assert version.manifest["published_at"].endswith("+00:00")
    assert version.manifest["files"]["head.safetensors"]["size"] == 7
    assert set(version.manifest["files"]) == {"head.safetensors", "report/curves.json"}
    registry.verify(version)


def test_a_large_file_comes_back_whole(place: Place, registry: Registry) -> None:
    data = bytes(range(256)) * 40_000  # more than two requests carry
    with registry.stage("backbone") as staged:
        (staged / "backbone.onnx").write_bytes(data)
        (staged / "empty.txt").write_bytes(b"")
        registry.publish("backbone", staged, {})
    found = place.open().get("backbone", "v1")
    assert (found.path / "backbone.onnx").read_bytes() == data
    assert (found.path / "empty.txt").read_bytes() == b""


def test_publishers_at_once_each_get_a_number(place: Place) -> None:
    made: list[str] = []

    def work(writer: int) -> None:
        mine = place.open()
        made.extend(publish(mine, f"{writer} {number}").version for number in range(4))

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made, key=lambda version: int(version[1:])) == [f"v{number}" for number in range(1, 13)]
    registry = place.open()
    texts = {(registry.get("project-4", version).path / "head.safetensors").read_text() for version in made}
    assert len(texts) == 12


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
    assert (registry.champion("project-4"), registry.previous("project-4")) == ("v1", None)
    with pytest.raises(NotFoundError, match="no previous"):
        registry.rollback("project-4")


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
    ("file", "content", "quick"),
    [
        ("head.safetensors", b"WEIGHTS", False),
        ("head.safetensors", b"weight", True),
        ("head.safetensors", None, True),
        ("manifest.json", b'{"files": ', True),
        ("manifest.json", b"[]", True),
        ("manifest.json", lambda old: old.replace(b'"project": "4"', b'"project": "5"'), True),
    ],
)
def test_damage_is_noticed_and_never_promoted(
    place: Place,
    caplog: pytest.LogCaptureFixture,
    file: str,
    content: bytes | Callable[[bytes], bytes] | None,
    quick: bool,
) -> None:
    registry = place.open()
    publish(registry)
    registry.promote("project-4", "v1")
    version = publish(registry)
    place.damage("project-4", "v2", file, content)
    other = place.open()
    with pytest.raises(DamagedError):
        other.verify(version)
    with pytest.raises(DamagedError):
        other.promote("project-4", "v2")
    assert other.champion("project-4") == "v1"
    if quick:
        with pytest.raises(DamagedError):
            other.get("project-4", "v2")
        assert [version.version for version in other.versions("project-4")] == ["v1"]
        assert "v2" in caplog.text or "files-" in caplog.text


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


def test_a_manifest_of_a_newer_format_is_refused(registry: Registry, place: Place) -> None:
    version = publish(registry)
    assert version.manifest["format"] == 1
    newer = sealed({**version.manifest, "format": 2})
    place.damage("project-4", "v1", "manifest.json", json.dumps(newer).encode())
    with pytest.raises(DamagedError, match="has format 2; this release reads formats up to 1"):
        place.open().get("project-4", "v1")


def test_aliases_of_a_newer_format_are_refused(registry: Registry, place: Place) -> None:
    publish(registry)
    place.write_aliases('{"format": 3, "aliases": {}}')
    with pytest.raises(DamagedError, match="has format 3; this release"):
        registry.champion("project-4")


@pytest.mark.parametrize(
    "damage",
    ['{"project-4": ', "[]", '{"project-4": {"champion": 4, "before": {}, "changes": 1}}', '{"project-4": "v1"}'],
)
def test_aliases_that_cannot_be_read_are_reported(registry: Registry, place: Place, damage: str) -> None:
    publish(registry)
    place.write_aliases(damage)
    with pytest.raises(DamagedError, match="promote the versions to serve again"):
        registry.champion("project-4")
    with pytest.raises(DamagedError):
        registry.promote("project-4", "v1")
    place.write_aliases(None)
    registry.promote("project-4", "v1")
    assert registry.champion("project-4") == "v1"


def test_a_name_is_removed_with_its_versions(place: Place, registry: Registry) -> None:
    publish(registry, name="backbone")
    for name in ("project-4", "project-5"):
        publish(registry, "one", name)
        publish(registry, "two", name)
    registry.promote("backbone", "v1")
    registry.promote_together({"project-4": "v1", "project-5": "v1"})
    registry.promote_together({"project-4": "v2", "project-5": "v2"})
    stamp = registry.alias_stamp("project-4")
    assert registry.remove("project-4") == 2
    for reader in (registry, place.open()):
        assert (reader.champion("project-4"), reader.previous("project-4")) == (None, None)
        assert reader.versions("project-4") == []
        assert reader.names() == ["backbone", "project-5"]
        assert reader.champions() == {"backbone": "v1", "project-5": "v2"}
        with pytest.raises(NotFoundError):
            reader.get("project-4", "v2")
    assert registry.rollback("project-5") == "v1"  # what was promoted with it is not missed
    assert registry.remove("project-4") == 0

    # A version that comes later is never mistaken for one that another process still holds.
    assert publish(registry, "three").version == "v3"
    registry.promote("project-4", "v3")
    assert registry.alias_stamp("project-4") != stamp
    assert place.open().champion("project-4") == "v3"


def test_a_name_that_never_had_a_version_is_removed_without_a_trace(registry: Registry) -> None:
    assert registry.remove("project-9") == 0
    assert publish(registry, name="project-9").version == "v1"
