"""Labels count as new until a training has learned them."""

from __future__ import annotations

import pytest

from taxonomist.backend.retraining import training_job
from taxonomist.backend.retraining.training_job import train, train_head
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.errors import ConfigError, HeldError, StorageError, TrainingError
from taxonomist.training.heads.train_project import train_project
from tests.small_world import CONFIG

pytestmark = pytest.mark.slow


def silent(step: str, share: float) -> None: ...


def give(services: Services, document: ImageDocument, path: list[str] | None) -> None:
    """Give an image another accepted label, as a decision does."""
    before = services.catalog.get(document.id)
    assert before is not None
    accepted = {"colour": [path]} if path else {}
    labels = before.projects["7"]
    services.catalog.update(
        document.id, lambda now: now.in_project("7", labels.model_copy(update={"accepted": accepted}))
    )
    waiting = (accepted != labels.trained) - (labels.accepted != labels.trained)
    services.projects.count_changed_labels("7", changes=1, waiting=waiting)


@pytest.fixture
def home(trained: Services) -> Services:
    """A label of the first image is new: it is green now."""
    trained.settings = Settings(home=trained.settings.home, head_epochs=3, views=0)
    trained.projects.update("7", changed_labels=0)
    give(trained, first(trained), ["Cold", "Green"])
    return trained


def first(services: Services) -> ImageDocument:
    return next(d for d in services.catalog.documents("7") if d.projects["7"].accepted == {"colour": [["Warm", "Red"]]})


def changed(services: Services) -> int:
    return services.projects.get("7").changed_labels


def trained_labels(services: Services) -> list[bool]:
    labels = [document.projects["7"] for document in services.catalog.documents("7")]
    return [label.accepted == label.trained for label in labels]


def test_a_training_learns_them(home: Services) -> None:
    assert (changed(home), trained_labels(home).count(False)) == (1, 1)
    train(home, "7", silent)
    assert (changed(home), trained_labels(home).count(False)) == (0, 0)


@pytest.mark.parametrize("error", [StorageError("The disk is full."), TrainingError("Too few."), KeyError("bug")])
def test_a_training_that_fails_leaves_them(home: Services, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(training_job, "train_project", fail)
    with pytest.raises(type(error)):
        train(home, "7", silent)
    assert (changed(home), trained_labels(home).count(False)) == (1, 1)


def test_a_config_that_is_refused_leaves_them(home: Services) -> None:
    home.projects.update("7", label_config="<View/>")
    with pytest.raises(ConfigError):
        train(home, "7", silent)
    assert changed(home) == 1


def test_a_training_that_waits_for_a_person_leaves_them(home: Services) -> None:
    home.projects.update("7", label_config=CONFIG.replace('<Choice value="Yellow"/>', ""), changed_labels=5)
    with pytest.raises(HeldError):
        train(home, "7", silent)
    assert changed(home) >= 5


def test_a_head_for_another_backbone_leaves_them(home: Services) -> None:
    backbone = home.backbone()
    assert backbone is not None
    train_head(home, "7", silent, backbone, promote=False)
    assert (changed(home), trained_labels(home).count(False)) == (1, 1)


@pytest.mark.parametrize(
    ("path", "left"),
    [(["Cold", "Green"], 0), (["Warm", "Red"], 1), (["Cold", "Blue"], 1), (None, 1)],
    ids=["as learned", "as before", "another", "withdrawn"],
)
def test_what_changes_during_a_training_is_new(
    home: Services, monkeypatch: pytest.MonkeyPatch, path: list[str] | None, left: int
) -> None:
    image = next(d for d in home.catalog.documents("7") if d.projects["7"].accepted != d.projects["7"].trained)
    other = first(home)
    training = train_project

    def change_and_train(*arguments: object, **options: object) -> object:
        give(home, image, ["Warm", "Yellow"])
        give(home, image, path)
        give(home, other, ["Cold", "Green"])
        return training(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training_job, "train_project", change_and_train)
    train(home, "7", silent)
    assert (changed(home), trained_labels(home).count(False)) == (left + 1, left + 1)
