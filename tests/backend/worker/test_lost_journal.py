"""A journal that is damaged or gone: nothing goes on without it until a person says so, and then no label is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.backend.status import collect_status
from taxonomist.backend.worker.worker import Worker
from taxonomist.taxonomy.errors import DamagedError
from tests.backend.cli.conftest import Run
from tests.backend.forgetting.test_forget_project import manifest_of
from tests.backend.state.test_damaged_records import labels_of, restarted


def journal_of(services: Services) -> Path:
    return services.home / "journal.sqlite"


def remove(services: Services) -> None:
    services.journal.close()
    for file in services.home.glob("journal.sqlite*"):
        file.unlink()


def overwrite(services: Services) -> None:
    remove(services)
    journal_of(services).write_bytes(b"no database" * 1000)


@pytest.mark.parametrize(("damage", "said"), [(remove, "is gone. Put back"), (overwrite, "is damaged (file is not")])
def test_it_stops_everything_and_says_what_to_do(
    trained: Services, run: Run, damage: Callable[[Services], None], said: str
) -> None:
    Worker(trained).pulse()
    damage(trained)
    services = restarted(trained)
    with pytest.raises(DamagedError) as raised:
        services.journal.fold()
    assert f"{journal_of(trained)} {said}" in str(raised.value)
    assert f'"{journal_of(trained)}.damaged"' in str(raised.value)
    code, _, err = run("train", "--project", "7")
    assert (code, said.partition(".")[0] in err) == (8, True)
    assert journal_of(trained).exists() == (damage is overwrite)
    with pytest.raises(DamagedError):  # a process that had it open makes no new one either
        trained.journal.fold()


@pytest.mark.parametrize("damage", [remove, overwrite])
def test_no_label_is_lost_once_it_was_moved_aside(
    trained: Services, damage: Callable[[Services], None], tmp_path: Path
) -> None:
    manifest = manifest_of(trained)
    Worker(trained).pulse()
    before = labels_of(trained)
    parts = {document.id: document.projects["7"].part for document in trained.catalog.documents("7")}
    damage(trained)
    aside = journal_of(trained).with_name("journal.sqlite.damaged")
    if damage is remove:
        aside.touch()
    else:
        journal_of(trained).rename(aside)
    services = restarted(trained)
    worker = Worker(services)
    worker._begin()
    worker.pulse()
    services.projects.update("7", decided_with="another rule")
    worker.pulse()
    assert labels_of(services) == before
    assert services.journal.kept.parts("7", parts) == parts
    lost = collect_status(services, "7").projects[0].lost
    assert lost is not None
    assert f"annotations of {manifest.name}. Import the same files again." in lost
    import_manifest(services, manifest, "7")
    Worker(services).pulse()
    assert collect_status(services, "7").projects[0].lost is None
    assert labels_of(services) == before
    services.projects.update("7", settings=ProjectChoices(annotators=1))
    Worker(services).pulse()
    assert labels_of(services) == before


def test_labels_that_an_order_may_have_chosen_count_as_chosen_by_it(trained: Services) -> None:
    Worker(trained).pulse()
    trained.projects.update("7", settings=ProjectChoices(order="diverse"))
    remove(trained)
    journal_of(trained).with_name("journal.sqlite.damaged").touch()
    services = restarted(trained)
    Worker(services)._begin()
    labelled = {document.id for document in services.catalog.documents("7", labelled=True)}
    drawn = services.journal.draws.drawn("7", labelled)
    assert drawn.keys() == labelled
    assert set(drawn.values()) == {"random", "order"}


def test_a_new_home_has_none_yet(services: Services) -> None:
    services.projects.update("7", label_config="<View/>")
    assert services.journal.fold().events == 0
    shutil.rmtree(services.home)
