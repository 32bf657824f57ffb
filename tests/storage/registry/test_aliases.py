"""Several names that change in one step: what a rollback gives back, and what a crash leaves."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxonomist.storage.registry import Registry
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError
from tests.storage.registries import BlobPlace, Place

NAMES = ("backbone", "project-4", "project-5")
VERSIONS = ("v1", "v2", "v3")
Start = Callable[..., subprocess.Popen[str]]


def filled(registry: Registry, versions: int = 3) -> Registry:
    for name in NAMES:
        for _ in range(versions):
            with registry.stage(name) as staged:
                (staged / "head.safetensors").write_text("weights")
                registry.publish(name, staged, {})
    return registry


@pytest.fixture
def registry(place: Place) -> Registry:
    return filled(place.open())


def test_together_and_back(registry: Registry) -> None:
    registry.promote_together({"backbone": "v1", "project-4": "v1"})
    registry.promote_together({"backbone": "v2", "project-4": "v2", "project-5": "v1"})
    registry.promote("project-4", "v3")  # retrained on the new backbone
    assert registry.rollback("backbone") == "v1"
    assert registry.champions() == {"backbone": "v1", "project-4": "v1"}
    assert registry.champion("project-5") is None
    for name in NAMES:  # there is nothing before the first promotion
        with pytest.raises(NotFoundError, match="no previous"):
            registry.rollback(name)
    assert registry.champions() == {"backbone": "v1", "project-4": "v1"}


def test_each_rollback_goes_one_version_further_back(registry: Registry, place: Place) -> None:
    for version in ("v1", "v2", "v3", "v1", "v2"):
        registry.promote("project-4", version)
    served = [place.open().rollback("project-4") for _ in range(4)]  # in processes of their own
    assert served == ["v1", "v3", "v2", "v1"]
    with pytest.raises(NotFoundError, match="no previous"):
        registry.rollback("project-4")
    registry.promote("project-4", "v3")
    assert registry.rollback("project-4") == "v1"


def test_back_through_promotions_alone_and_together(registry: Registry) -> None:
    registry.promote_together({"backbone": "v1", "project-4": "v1", "project-5": "v1"})
    registry.promote("project-4", "v2")
    registry.promote_together({"backbone": "v2", "project-4": "v3"})
    registry.promote("project-5", "v2")
    assert registry.rollback("project-4") == "v2"
    assert registry.champions() == {"backbone": "v1", "project-4": "v2", "project-5": "v2"}
    assert registry.rollback("project-4") == "v1"
    assert registry.champions() == {"backbone": "v1", "project-4": "v1", "project-5": "v2"}
    assert registry.rollback("project-5") == "v1"


def test_aliases_of_an_earlier_version_go_back_once(registry: Registry, place: Place) -> None:
    before = {"backbone": "v1", "project-4": "v2"}
    aliases = {
        "backbone": {"champion": "v2", "before": before, "changes": 2},
        "project-4": {"champion": "v3", "before": before, "changes": 4},
    }
    place.write_aliases(json.dumps({"format": 1 if isinstance(place, BlobPlace) else 2, "aliases": aliases}))
    later = place.open()
    later.promote("project-4", "v1")
    assert later.rollback("project-4") == "v3"
    assert later.rollback("project-4") == "v2"
    assert later.champions() == {"backbone": "v1", "project-4": "v2"}
    for name in ("backbone", "project-4"):
        with pytest.raises(NotFoundError, match="no previous"):
            later.rollback(name)


def test_a_name_that_moved_alone_goes_back_alone(registry: Registry) -> None:
    registry.promote_together({"backbone": "v1", "project-4": "v1"})
    registry.promote_together({"backbone": "v2", "project-4": "v2"})
    registry.promote("project-4", "v3")
    assert registry.rollback("project-4") == "v2"
    assert registry.champion("backbone") == "v2"


def test_all_or_nothing(registry: Registry, place: Place) -> None:
    registry.promote_together({"backbone": "v1", "project-4": "v1"})
    place.damage("project-4", "v2", "head.safetensors", b"WEIGHTS")
    with pytest.raises(DamagedError):
        registry.promote_together({"backbone": "v2", "project-4": "v2"})
    with pytest.raises(NotFoundError):
        registry.promote_together({"backbone": "v2", "project-4": "v9"})
    assert registry.champions() == {"backbone": "v1", "project-4": "v1"}


def test_nothing_goes_back_where_one_cannot(registry: Registry, place: Place) -> None:
    registry.promote_together({"backbone": "v1", "project-4": "v1"})
    registry.promote_together({"backbone": "v2", "project-4": "v2"})
    place.damage("project-4", "v1", "head.safetensors", None)
    with pytest.raises(DamagedError):
        registry.rollback("backbone")
    assert registry.champions() == {"backbone": "v2", "project-4": "v2"}


def test_only_instead_of_those_it_was_compared_with(registry: Registry) -> None:
    registry.promote("backbone", "v1")
    compared: dict[str, str | None] = {"backbone": "v1", "project-4": None}
    registry.promote("project-4", "v1")
    with pytest.raises(ConflictError, match='"project-4" is now v1'):
        registry.promote_together({"backbone": "v2", "project-4": "v2"}, instead_of=compared)
    assert registry.champions() == {"backbone": "v1", "project-4": "v1"}
    registry.promote_together({"backbone": "v2", "project-4": "v2"}, instead_of={**compared, "project-4": "v1"})
    assert registry.champions() == {"backbone": "v2", "project-4": "v2"}


# --- against a model


@dataclass(frozen=True)
class Published:
    """A store with all versions and two registries on it, made once: hypothesis calls a test many times."""

    place: Place
    registry: Registry
    reader: Registry

    def unpromoted(self) -> Registry:
        self.place.write_aliases(None)
        return self.registry


@pytest.fixture
def published(place: Place) -> Published:
    return Published(place, filled(place.open()), place.open())


moves = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS)),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS), max_size=3),
    st.sampled_from(NAMES),
)


class Log:
    """The model: for each name the promotions that it was part of, each as a number and {name: champion before}."""

    def __init__(self) -> None:
        self.champions: dict[str, str | None] = dict.fromkeys(NAMES)
        self.promotions: dict[str, list[tuple[int, dict[str, str | None]]]] = {name: [] for name in NAMES}
        self.count = 0

    def previous(self, name: str) -> str | None:
        return self.promotions[name][-1][1][name] if self.promotions[name] else None

    def promote(self, to: dict[str, str]) -> None:
        before = {name: self.champions[name] for name, version in to.items() if self.champions[name] != version}
        self.count += 1
        for name in before:
            self.champions[name] = to[name]
            self.promotions[name].append((self.count, before))

    def rollback(self, name: str) -> None:
        undone, before = self.promotions[name][-1]
        for other, version in before.items():
            self.champions[other] = version
            self.promotions[other] = [entry for entry in self.promotions[other] if entry[0] < undone]


SHARED = [HealthCheck.function_scoped_fixture]  # one store for all examples, emptied of aliases for each


@settings(max_examples=25, deadline=None, suppress_health_check=SHARED)
@given(sequence=st.lists(moves, max_size=8))
def test_any_sequence_of_changes(published: Published, sequence: list[tuple[str, str] | dict[str, str] | str]) -> None:
    registry, reader, log = published.unpromoted(), published.reader, Log()
    for move in sequence:
        before = registry.champions()
        stamps = {name: registry.alias_stamp(name) for name in NAMES}
        if isinstance(move, tuple):
            registry.promote(*move)
            log.promote(dict([move]))
        elif isinstance(move, dict):
            registry.promote_together(move)
            log.promote(dict(move))
        elif log.previous(move) is None:
            with pytest.raises(NotFoundError):
                registry.rollback(move)
        else:
            assert registry.rollback(move) == log.previous(move)
            log.rollback(move)
        for name in NAMES:
            assert reader.champion(name) == log.champions[name]
            assert reader.previous(name) == log.previous(name)
            assert (reader.alias_stamp(name) == stamps[name]) == (reader.champions().get(name) == before.get(name))


@settings(max_examples=25, deadline=None, suppress_health_check=SHARED)
@given(sequence=st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS)), max_size=6))
def test_rollbacks_follow_the_history_to_its_beginning(published: Published, sequence: list[dict[str, str]]) -> None:
    name, registry = NAMES[0], published.unpromoted()
    history: list[str | None] = []
    for move in sequence:
        registry.promote_together(move)
        if history[-1:] != [registry.champion(name)]:
            history.append(registry.champion(name))
    for version in reversed([version for version in history[:-1] if version is not None]):
        assert registry.rollback(name) == version
    assert registry.previous(name) is None


def test_promotions_at_once_are_each_whole(place: Place) -> None:
    filled(place.open(), versions=2)
    registries = [place.open() for _ in range(3)]

    def promote(registry: Registry) -> None:
        for version in ("v1", "v2", "v1"):
            registry.promote_together(dict.fromkeys(NAMES, version))

    threads = [threading.Thread(target=promote, args=(registry,)) for registry in registries]
    for thread in threads:
        thread.start()
    reader = place.open()
    while any(thread.is_alive() for thread in threads):
        assert len(set(reader.champions().values())) <= 1
    for thread in threads:
        thread.join()
    assert len(set(reader.champions().values())) == 1
    assert set(reader.champions()) == set(NAMES)


# --- on the disk


def test_a_change_never_looks_older_than_the_one_before(tmp_path: Path) -> None:
    """The clock of the file system stands still or was set back."""
    registry = filled(FolderRegistry(tmp_path))
    registry.promote("backbone", "v1")
    later = time.time_ns() + 3600 * 10**9
    os.utime(tmp_path / "aliases.json", ns=(later, later))
    registry.promote("backbone", "v2")
    assert (tmp_path / "aliases.json").stat().st_mtime_ns > later


@pytest.mark.slow
def test_killed_at_any_moment_no_one_sees_a_mix(tmp_path: Path, start_worker: Start) -> None:
    reader = filled(FolderRegistry(tmp_path), versions=2)
    seen: set[frozenset[str]] = set()
    for attempt in range(12):
        process = start_worker("promote_together_for_ever", tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 0.02 + 0.013 * attempt
        while time.monotonic() < until:
            champions = reader.champions()
            assert set(champions) == set(NAMES)
            seen.add(frozenset(champions.values()))
        process.kill()
        process.wait()
        left = FolderRegistry(tmp_path)
        assert len(set(left.champions().values())) == 1
        left.promote_together(dict.fromkeys(NAMES, "v1"))  # a lock that the dead one held is free
    assert seen == {frozenset({"v1"}), frozenset({"v2"})}
