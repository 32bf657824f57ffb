"""`taxonomist forget --image`, and images whose tasks were deleted: they go with all that only they used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from pydantic import SecretStr

from taxonomist.backend.forgetting.forget import forget_image
from taxonomist.backend.forgetting.plan import Plan, plan_image
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.prediction.embedding import embed, read_image
from taxonomist.backend.prediction.look_alikes import LookAlikes
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.worker import Worker
from taxonomist.inference.pipeline import DecodedImage, ImageSource
from taxonomist.storage.catalog import ImageDocument, image_id
from taxonomist.storage.home.image_files import find_image_files, forget_image_files
from taxonomist.taxonomy.errors import ImageDecodingError, LabelStudioError, StorageError
from tests.backend.cli.conftest import Run, run_json
from tests.backend.forgetting.conftest import traces
from tests.backend.forgetting.test_forget_project import manifest_of
from tests.backend.prediction.test_several_images import CONFIG as TWO_IMAGES
from tests.label_studio_stand_in import RED, StandIn
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone

NAMES = ("secret-a.png", "secret-b.png", "secret-c.png")
A, B, C = (f"/data/upload/4/{name}" for name in NAMES)


@pytest.fixture
def label_studio() -> Iterator[StandIn]:
    """Three tasks, each labelled red by two people, and their images."""
    with StandIn() as running:
        for number, uri in enumerate((A, B, C), start=1):
            running.add_task(number, uri)
            running.annotate(10 * number, number, 3, RED)
            running.annotate(10 * number + 1, number, 5, RED)
            running.files[uri] = image_bytes(PATHS[0], number)
        yield running


@pytest.fixture
def connected(services: Services, label_studio: StandIn) -> Services:
    """The project is connected, a pass has read everything, and all images are embedded and cached."""
    publish_backbone(services)
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
    run_pass(services)
    embedded = embed(services, "4", {image_id(uri): uri for uri in (A, B, C)}, "v1")
    assert len(embedded.vectors) == 3, embedded.failures
    assert find_image_files(services.home, {image_id(A)}).cached.rows == 1
    return services


def run_pass(services: Services) -> str:
    return sync(services, "4", lambda step, share: None)


def labelled(services: Services) -> set[str]:
    return {document.projects["4"].uri for document in services.catalog.documents("4", labelled=True)}


def deleted(label_studio: StandIn, *ids: int) -> Any:
    tasks = [{"id": id} for id in ids]
    return parse_webhook({"action": "TASKS_DELETED", "project": label_studio.project(), "tasks": tasks})


def test_a_deleted_task_takes_its_image_along(connected: Services, label_studio: StandIn) -> None:
    for number, uri in ((1, A), (2, B)):
        suggestion = StoredSuggestion(str(number), "colour", "taxonomist-v1", image_id(uri), ("Warm",), 0.9, 1.0)
        connected.suggestions.add("4", [suggestion])
    assert traces(connected.home, NAMES[:1])
    UseCases(connected).receive(deleted(label_studio, 1))
    Worker(connected).pulse()
    assert traces(connected.home, NAMES[:1]) == []
    assert [found.task_id for found in connected.suggestions.of_tasks("4", ["1", "2"])] == ["2"]
    assert labelled(connected) == {B, C}
    assert connected.embeddings("v1").get([image_id(uri) for uri in (A, B, C)])[0].tolist() == [False, True, True]
    assert find_image_files(connected.home, {image_id(B)}).cached.rows == 1


def test_a_pass_that_finds_a_deletion_does_the_same(connected: Services, label_studio: StandIn) -> None:
    del label_studio.tasks[1], label_studio.annotations[10], label_studio.annotations[11]
    assert run_pass(connected).endswith("3 missed deletions")
    assert traces(connected.home, NAMES[:1]) == []
    assert labelled(connected) == {B, C}


def test_nothing_is_forgotten_because_one_answer_was_odd(connected: Services, label_studio: StandIn) -> None:
    def odd(method: str, path: str, answer: Any) -> Any:
        return {**answer, "tasks": []} if path.rstrip("/") == "/api/tasks" else answer

    before = {uri: traces(connected.home, [uri.rpartition("/")[2]]) for uri in (A, B, C)}
    label_studio.answer = odd
    with pytest.raises(LabelStudioError, match="Nothing was deleted"):
        run_pass(connected)
    label_studio.created_at = "2026-11-25T10:00:00Z"
    with pytest.raises(LabelStudioError, match="another Label Studio"):
        run_pass(connected)
    assert labelled(connected) == {A, B, C}
    assert {uri: traces(connected.home, [uri.rpartition("/")[2]]) for uri in (A, B, C)} == before


def test_what_another_task_shows_stays(connected: Services, label_studio: StandIn) -> None:
    label_studio.add_task(4, A)
    run_pass(connected)
    UseCases(connected).receive(deleted(label_studio, 1))
    Worker(connected).pulse()
    assert connected.embeddings("v1").get([image_id(A)])[0].all()
    assert find_image_files(connected.home, {image_id(A)}).cached.rows == 1
    document = connected.catalog.get(image_id(A))
    assert document is not None
    assert document.projects["4"].task_id == "4"


def test_what_another_project_shows_stays(connected: Services, label_studio: StandIn, tmp_path: Path) -> None:
    connected.projects.update("5", label_config=CONFIG)
    connected.catalog.update(
        image_id(A), lambda d: d.in_project("5", d.projects["4"].model_copy(update={"part": None}))
    )
    UseCases(connected).receive(deleted(label_studio, 1, 2))
    Worker(connected).pulse()
    assert connected.embeddings("v1").get([image_id(uri) for uri in (A, B, C)])[0].tolist() == [True, False, True]
    assert traces(connected.home, NAMES[1:2]) == []
    assert labelled(connected) == {C}


def test_an_image_that_comes_back_is_in_its_part(connected: Services, label_studio: StandIn) -> None:
    """A task is deleted and made anew: the image must not test a model that has learned from it."""
    for uri, part in ((A, "train"), (B, "test")):
        connected.catalog.update(
            image_id(uri),
            lambda d, part=part: d.in_project("4", d.projects["4"].model_copy(update={"part": part})),  # type: ignore[misc]
        )
    UseCases(connected).receive(deleted(label_studio, 1, 2, 3))
    Worker(connected).pulse()
    assert connected.catalog.count() == 0
    for number, uri in enumerate((A, B, C), start=1):
        label_studio.tasks.pop(number)
        label_studio.add_task(number + 100, uri)
        label_studio.annotations[10 * number]["task"] = number + 100
        label_studio.annotations[10 * number + 1]["task"] = number + 100
    run_pass(connected)
    parts = {document.projects["4"].uri: document.projects["4"].part for document in connected.catalog.documents("4")}
    assert parts == {A: "train", B: "test", C: None}


def test_a_late_webhook_is_forgotten_again(connected: Services, label_studio: StandIn) -> None:
    late = parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", 10))
    use_cases = UseCases(connected)
    use_cases.receive(deleted(label_studio, 1))
    Worker(connected).pulse()
    use_cases.receive(late)
    Worker(connected).pulse()
    assert labelled(connected) == {B, C}
    assert traces(connected.home, NAMES[:1]) == []


@pytest.fixture
def emptied(connected: Services) -> Services:
    """No image has an embedding or a cached file, as when the project was just connected."""
    forget_image_files(connected.home, {image_id(uri) for uri in (A, B, C)})
    return connected


def while_read(monkeypatch: pytest.MonkeyPatch, remove: Callable[[], None]) -> None:
    """Have the first image removed by another process when its file is read: all were listed before."""

    def read(services: Services, source: ImageSource, size: int) -> DecodedImage:
        image = read_image(services, source, size)
        if source.uri == A:
            remove()
        return image

    monkeypatch.setattr("taxonomist.backend.prediction.embedding.read_image", read)


def delete_task(services: Services, label_studio: StandIn) -> None:
    other = Services(services.settings)
    UseCases(other).receive(deleted(label_studio, 1))
    Worker(other).pulse()
    assert other.catalog.get(image_id(A)) is None


def test_a_running_embedding_brings_no_deleted_image_back(
    emptied: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_read(monkeypatch, lambda: delete_task(emptied, label_studio))
    embed_all(emptied, "4", lambda step, share: None)
    assert traces(emptied.home, NAMES[:1]) == []
    assert {document.projects["4"].uri for document in emptied.catalog.documents("4")} == {B, C}
    assert emptied.embeddings("v1").get([image_id(uri) for uri in (A, B, C)])[0].tolist() == [False, True, True]


def test_a_running_embedding_brings_no_image_back_that_a_command_forgot(
    emptied: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget() -> None:
        other = Services(emptied.settings)
        forget_image(other, plan_image(other, A), lambda step, share: None)

    while_read(monkeypatch, forget)
    embed_all(emptied, "4", lambda step, share: None)
    assert traces(emptied.home, NAMES[:1]) == []
    assert labelled(emptied) == {B, C}


def test_an_image_that_is_deleted_while_it_cannot_be_decoded_leaves_no_file(
    emptied: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(services: Services, source: ImageSource, size: int) -> DecodedImage:
        image = read_image(services, source, size)
        if source.uri == A:
            delete_task(emptied, label_studio)
            read_image(services, source, size)  # cached again, after the other process has forgotten it
            raise ImageDecodingError("It is damaged.")
        return image

    monkeypatch.setattr("taxonomist.backend.prediction.embedding.read_image", read)
    embed_all(emptied, "4", lambda step, share: None)
    assert traces(emptied.home, NAMES[:1]) == []


def test_an_image_that_another_project_has_stays_while_it_is_embedded(
    emptied: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is embedded, but is not in the former project again."""

    def leave() -> None:
        emptied.projects.update("5", label_config=CONFIG)
        emptied.catalog.update(image_id(A), lambda d: d.in_project("5", d.projects["4"]))
        other = Services(emptied.settings)
        UseCases(other).receive(deleted(label_studio, 1))
        Worker(other).pulse()

    while_read(monkeypatch, leave)
    embed_all(emptied, "4", lambda step, share: None)
    document = emptied.catalog.get(image_id(A))
    assert document is not None
    assert set(document.projects) == {"5"}
    assert document.file_hash
    assert emptied.embeddings("v1").get([image_id(A)])[0].all()


def test_documents_of_other_programs_stay(connected: Services, label_studio: StandIn) -> None:
    connected.catalog.update(image_id(A), lambda document: document.model_copy(update={"is_blurred": True}))
    UseCases(connected).receive(deleted(label_studio, 1))
    Worker(connected).pulse()
    document = connected.catalog.get(image_id(A))
    assert document is not None
    assert (document.projects, document.is_blurred) == ({}, True)
    assert not connected.embeddings("v1").get([image_id(A)])[0].any()


def test_votes_of_a_running_server_are_without_it_at_once(connected: Services, label_studio: StandIn) -> None:
    look_alikes = LookAlikes(connected)
    vector = connected.embeddings("v1").get([image_id(A)])[1][0]
    assert look_alikes.nearest("4", vector, "v1")[0].image_id == image_id(A)
    other = Services(connected.settings)  # the worker
    UseCases(other).receive(deleted(label_studio, 1))
    Worker(other).pulse()
    assert {found.image_id for found in look_alikes.nearest("4", vector, "v1")} == {image_id(B), image_id(C)}


def test_a_command_forgets_an_image(connected: Services, run: Run) -> None:
    found = run_json(run, "forget", "--image", A, "--dry-run")
    goes = found["goes"]
    assert (goes["images"], goes["accepted labels"], goes["tasks"], goes["annotations"]) == (1, 1, 1, 2)
    assert (goes["documents"], goes["embeddings"], goes["cached files"], goes["events"]) == (1, 1, 1, 3)
    assert traces(connected.home, NAMES[:1])
    code, out, err = run("forget", "--image", A, "--yes")
    assert code == 0, err
    assert "Task 1 of project 4 in Label Studio shows the image: delete it there" in out
    assert traces(connected.home, NAMES[:1]) == []
    assert labelled(Services(connected.settings)) == {B, C}
    code, _, err = run("forget", "--image", A, "--yes")
    assert code == 4
    assert "Did you mean" in err
    assert B in err


@pytest.mark.parametrize("form", ["id", "path", "address"])
def test_an_image_of_a_manifest_is_named_in_several_ways(trained: Services, run: Run, form: str) -> None:
    document = next(trained.catalog.documents("7"))
    uri = document.projects["7"].uri
    name = {"id": document.id, "path": str(Path(uri)), "address": f"  {uri}".strip()}[form]
    found = run_json(run, "forget", "--image", name, "--yes")
    assert found["image"] == document.id
    assert any("the next import brings it back" in line for line in found["stays"])
    assert any("versions of the model of project 7" in line for line in found["stays"])
    left = traces(trained.settings.home, [uri.rpartition("/")[2]])
    assert all(path.startswith("models/project-7/") for path in left)  # as it says
    services = Services(trained.settings)
    assert services.catalog.count("7") == 79
    part = document.projects["7"].part
    import_manifest(services, manifest_of(trained), "7")
    back = services.catalog.get(document.id)
    assert back is not None
    assert back.projects["7"].part == part


def test_an_image_beside_others_in_a_task_is_refused(services: Services, run: Run, tmp_path: Path) -> None:
    services.projects.update("4", label_config=TWO_IMAGES)
    data = {"image1": A, "folder": "/data/upload/4", "image2": NAMES[1]}
    task = {"id": 1, "data": data, "created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-01-05T10:00:00Z"}
    project = {"id": 4, "label_config": TWO_IMAGES, "created_at": "2026-01-05T10:00:00Z"}
    UseCases(services).receive(parse_webhook({"action": "TASKS_CREATED", "project": project, "tasks": [task]}))
    decide_all_dirty(services, "4")
    code, _, err = run("forget", "--image", A, "--yes")
    assert code == 5
    assert "Task 1 of project 4" in err
    assert services.catalog.count("4") == 2
    UseCases(services).receive(parse_webhook({"action": "TASKS_DELETED", "project": project, "tasks": [{"id": 1}]}))
    Worker(services).pulse()
    assert traces(services.home, NAMES[:2]) == []


def test_an_image_that_is_in_no_project_any_more(services: Services, run: Run) -> None:
    services.catalog.put(ImageDocument(id=image_id(A), uri_orig=A))
    services.catalog.put(ImageDocument(id="other", uri_orig=B, sortout="Keep"))
    assert run("forget", "--image", A, "--yes")[0] == 0
    found = run_json(run, "forget", "--image", "other", "--yes")
    assert any("other programs" in line for line in found["stays"])
    assert [document.id for document in services.catalog.documents()] == ["other"]


def test_a_document_that_another_program_made_stays(services: Services, run: Run) -> None:
    document = services.catalog.put(ImageDocument(id="00004711", uri_orig=A, file_hash="5f9d", total_annotations=3))
    found = run_json(run, "forget", "--image", "00004711", "--yes")
    assert any(line.startswith("The document 00004711 stays") for line in found["stays"])
    assert services.catalog.get("00004711") == document


def test_an_image_that_left_its_projects_before_keeps_its_parts(services: Services, run: Run) -> None:
    services.catalog.put(ImageDocument(id=image_id(A), uri_orig=A, former_parts={"5": "train"}))
    assert run("forget", "--image", A, "--yes")[0] == 0
    assert services.catalog.get(image_id(A)) is None
    assert services.journal.kept.parts("5", [image_id(A)]) == {image_id(A): "train"}


@pytest.fixture
def registered(connected: Services, label_studio: StandIn) -> Services:
    """Our ML backend, our webhooks, and some of others, are in Label Studio."""
    credentials, address = connected.credentials, connected.settings.url
    row = {"id": 3, "project": 4, "url": address, "title": "t", "state": "CO", "auth_method": "NONE"}
    label_studio.ml_backends = {3: row, 4: {**row, "id": 4, "url": "http://another:9090"}}
    hook = {"id": 8, "project": 4, "url": f"{address}/webhook", "headers": {}, "is_active": True}
    ours = {
        **hook,
        "id": 9,
        "url": "http://former/webhook",
        "headers": {"X-Taxonomist-Secret": credentials.webhook_secret},
    }
    label_studio.webhooks = {8: hook, 9: ours, 10: {**hook, "id": 10, "url": "http://another/hook"}}
    return connected


def test_a_disconnected_project_says_what_stays(registered: Services, run: Run, label_studio: StandIn) -> None:
    found = run_json(run, "forget", "--project", "4", "--yes")
    assert list(label_studio.ml_backends) == [4]
    assert list(label_studio.webhooks) == [10]
    assert any("predictions stay in Label Studio" in line for line in found["done"])
    assert traces(registered.home, NAMES) == []


def test_what_label_studio_says_controls_no_terminal(
    registered: Services, run: Run, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done in it is printed also when the rest fails."""
    said = {"detail": "away\x1b[2J"}
    label_studio.refuse = lambda _method, path: 400 if path == "/api/ml" else None
    label_studio.answer = lambda _method, path, found: said if path.rstrip("/") == "/api/ml" else found

    def full(*_: object) -> None:
        raise StorageError("The disk is full\x1b[2J.")

    monkeypatch.setattr(type(registered.registry), "remove", full)
    code, out, err = run("forget", "--project", "4", "--yes")
    assert (code, r"answered 400 (away\x1b[2J)" in err, "The disk is full" in err) == (8, True, True)
    assert (out + err).replace("\n", "").isprintable()


def test_a_project_that_is_trained_stays_connected(registered: Services, run: Run, label_studio: StandIn) -> None:
    """A training on the command line is no job: only its lock tells."""
    with FileLock(registered.home / "training-4.lock"):
        code, _, err = run("forget", "--project", "4", "--yes")
    assert code == 5
    assert "Project 4 is being trained." in err
    assert (len(label_studio.ml_backends), len(label_studio.webhooks)) == (2, 3)
    assert "removed from Label Studio" not in err
    assert labelled(registered) == {A, B, C}


def test_a_job_that_begins_at_the_prompt_keeps_the_project(
    registered: Services, run: Run, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(plan: Plan, *, yes: bool) -> None:
        registered.jobs.start(registered.jobs.enqueue(JobKind.EMBED, "4").id)
        heartbeat.beat(registered.home)

    monkeypatch.setattr("taxonomist.backend.cli.project.forget._confirm", confirm)
    code, _, err = run("forget", "--project", "4")
    assert code == 5
    assert "A job of project 4 is running (embed)." in err
    assert (len(label_studio.ml_backends), len(label_studio.webhooks)) == (2, 3)
    assert labelled(registered) == {A, B, C}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_run_that_fails_says_what_was_done(
    registered: Services, run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    def full(*arguments: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr("taxonomist.backend.forgetting.forget.leave_project", full)
    code, out, err = run("forget", "--project", "4", "--yes", *options)
    assert code != 0
    assert "The disk is full." in err
    assert "The ML backend 3 was removed from Label Studio." in err
    assert "is forgotten" not in out


def test_a_project_whose_label_studio_is_away_is_forgotten(services: Services, run: Run) -> None:
    services.projects.update("4", label_config=CONFIG, ml_backend=3, created="1", label_studio_url="http://127.0.0.1:9")
    services.projects.update("4", api_key=SecretStr("t"))
    found = run_json(run, "forget", "--project", "4", "--yes")
    assert any("Settings > Webhooks" in line for line in found["done"])
    assert not Services(services.settings).projects.exists("4")


def test_an_embedding_that_is_zero_is_never_a_look_alike(connected: Services, label_studio: StandIn) -> None:
    UseCases(connected).receive(deleted(label_studio, 1, 2))
    Worker(connected).pulse()
    zero = np.zeros(48, np.float32)
    assert [found.image_id for found in LookAlikes(connected).nearest("4", zero, "v1")] == [image_id(C)]
