"""A version that won its comparison is served, also when its training ended before the promotion."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from taxonomist.backend.retraining import finish_promotion as finishing
from taxonomist.backend.retraining.finish_promotion import finish_promotion, finish_promotions
from taxonomist.backend.retraining.training_job import train, train_head
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import HeldError, StorageError
from tests.small_world import CONFIG

pytestmark = pytest.mark.slow

NAME = "project-7"
WITHOUT_RED = CONFIG.replace('<Choice value="Red"/>', "")
KILLED = """
import os, signal, sys
from pathlib import Path
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.registry.folder import FolderRegistry
FolderRegistry.promote_together = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
train(Services(Settings(home=Path(sys.argv[1]), target_precision=0.8)), "7", lambda *_: None)
"""


def silent(step: str, share: float) -> None: ...


def fail(*_: object, **__: object) -> None:
    raise StorageError("The disk is full.")


def versions(services: Services) -> list[str]:
    return [version.version for version in services.registry.versions(NAME)]


@pytest.fixture
def home(trained: Services) -> Services:
    """Version 1 is served. The next one has the same weights, and so is not worse."""
    assert versions(trained) == ["v1"]
    trained.settings = Settings(home=trained.settings.home, target_precision=0.8)
    return trained


@pytest.fixture
def unfinished(home: Services, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The training of version 2 failed between its publication and its promotion."""
    with monkeypatch.context() as patched:
        patched.setattr(FolderRegistry, "promote_together", fail)
        with pytest.raises(StorageError):
            train(home, "7", silent)
    assert (versions(home), home.registry.champion(NAME)) == (["v1", "v2"], "v1")
    return home


def test_a_training_that_was_killed_is_finished_by_the_next_one(home: Services) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(home.settings.home)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (versions(home), home.registry.champion(NAME)) == (["v1", "v2"], "v1")
    assert train(Services(home.settings), "7", silent).startswith("taxonomist-v2 is served now")
    assert (versions(home), home.registry.champion(NAME)) == (["v1", "v2"], "v2")
    assert train(home, "7", silent).startswith("Nothing is trained")


def test_the_start_of_the_worker_finishes_it(unfinished: Services, caplog: pytest.LogCaptureFixture) -> None:
    finish_promotions(Services(unfinished.settings))
    assert unfinished.registry.champion(NAME) == "v2"
    assert "taxonomist-v2 was published and not promoted" in caplog.text
    finish_promotions(unfinished)
    unfinished.registry.rollback(NAME)
    assert unfinished.registry.champion(NAME) == "v1"


def test_what_a_person_took_back_stays_back(home: Services) -> None:
    train(home, "7", silent)
    home.registry.rollback(NAME)
    finish_promotions(home)
    assert train(home, "7", silent).startswith("Nothing is trained")
    assert home.registry.champion(NAME) == "v1"


def test_what_a_person_finished_and_took_back_stays_back(unfinished: Services) -> None:
    unfinished.registry.promote(NAME, "v2")
    unfinished.registry.rollback(NAME)
    finish_promotions(unfinished)
    assert unfinished.registry.champion(NAME) == "v1"


def test_a_persons_choice_since_then_stays(unfinished: Services) -> None:
    train(unfinished, "7", silent)
    unfinished.registry.promote(NAME, "v1")
    finish_promotions(unfinished)
    assert train(unfinished, "7", silent).startswith("Nothing is trained")
    assert unfinished.registry.champion(NAME) == "v1"


def test_what_a_person_takes_back_meanwhile_stays_back(unfinished: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def person(services: Services, _project: str, _on_step: object) -> None:
        services.registry.promote(NAME, "v2")
        services.registry.rollback(NAME)

    monkeypatch.setattr(finishing, "decide_anew", person)
    assert finish_promotion(unfinished, "7") is None
    assert unfinished.registry.champion(NAME) == "v1"


def test_a_version_that_lost_is_not_promoted(home: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXONOMIST_PROMOTION", "manual")
    manual = Services(Settings(home=home.settings.home, target_precision=0.8))
    assert "stays a candidate" in train(manual, "7", silent)
    monkeypatch.delenv("TAXONOMIST_PROMOTION")
    finish_promotions(home)
    assert train(home, "7", silent).startswith("Nothing is trained")
    assert home.registry.champion(NAME) == "v1"


def test_a_head_that_goes_with_a_backbone_is_not_promoted_alone(home: Services) -> None:
    backbone = home.backbone()
    assert backbone is not None
    train_head(home, "7", silent, backbone, promote=False)
    finish_promotions(home)
    assert (versions(home), home.registry.champion(NAME)) == (["v1", "v2"], "v1")


def test_where_a_person_promotes_now_nothing_is_promoted(unfinished: Services) -> None:
    record = unfinished.projects.get("7")
    unfinished.projects.update("7", settings=record.settings.model_copy(update={"promotion": "manual"}))
    finish_promotions(unfinished)
    assert unfinished.registry.champion(NAME) == "v1"


def test_what_waits_for_a_person_waits(unfinished: Services) -> None:
    unfinished.projects.update("7", label_config=WITHOUT_RED)
    with pytest.raises(HeldError):
        train(unfinished, "7", silent)
    finish_promotions(unfinished)
    assert unfinished.registry.champion(NAME) == "v1"


def test_a_damaged_version_is_trained_again(unfinished: Services) -> None:
    head = unfinished.registry.get(NAME, "v2").path / "head.safetensors"
    data = head.read_bytes()
    head.chmod(0o644)
    head.write_bytes(bytes(len(data)))
    finish_promotion(unfinished, "7")
    assert unfinished.registry.champion(NAME) == "v1"
    assert train(unfinished, "7", silent).startswith("taxonomist-v3 is served now")
