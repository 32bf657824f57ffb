"""Passes over Label Studio's API: content is compared, and nothing is deleted because one answer was odd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.connect import connect_project
from taxonomist.backend.label_studio.requests import parse_setup
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling import decisions
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import rename_labels
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import labels_outside
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.job_runner import run as run_job
from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import AnnotationDeleted, Event, Journal, TaskDeleted
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from tests.backend.labelling.test_label_studio_export import agreed, task, write
from tests.backend.labelling.test_label_studio_export import annotation as exported
from tests.label_studio_stand_in import BLUE, GREEN, RED, SOURCE, StandIn
from tests.small_world import CONFIG

A, B, C = (f"/data/upload/4/{name}.jpg" for name in "abc")


@pytest.fixture
def label_studio() -> Iterator[StandIn]:
    """Three tasks, each labelled red by two people."""
    with StandIn() as running:
        for number, uri in enumerate((A, B, C), start=1):
            running.add_task(number, uri)
            running.annotate(10 * number, number, 3, RED)
            running.annotate(10 * number + 1, number, 5, RED)
        yield running


@pytest.fixture
def connected(services: Services, label_studio: StandIn) -> Services:
    """The project is connected and a first pass has read everything."""
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
    assert run(services) == "3 tasks, 6 annotations, 9 missed events, 0 missed deletions"
    assert labels(services) == {A: RED, B: RED, C: RED}
    return services


def run(services: Services) -> str:
    return sync(services, "4", lambda step, share: None)


def labels(services: Services) -> dict[str, list[str] | None]:
    """Return the accepted label of each image of the project, by its address."""
    found = {}
    for document in services.catalog.documents("4"):
        own = document.projects["4"]
        found[own.uri] = own.accepted["colour"][0] if own.accepted else None
    return found


def test_labels_that_take_long_show_progress(
    services: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that shows none for a while is taken for a hung one, and its worker is replaced."""
    monkeypatch.setattr(decisions, "CHUNK", 1)
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("t"))
    steps: list[str] = []
    sync(services, "4", lambda step, share: steps.append(step))
    assert steps.count("labels") == 3
    services.projects.update("4", decided_with="another rule")
    sync(services, "4", lambda step, share: steps.append(step))
    assert steps.count("labels") == 6


@pytest.mark.parametrize("missing", ["created_at", "task_number", "total_annotations_number"])
def test_an_answer_without_counts_deletes_nothing(connected: Services, label_studio: StandIn, missing: str) -> None:
    label_studio.tasks.clear()
    label_studio.missing = missing
    with pytest.raises(LabelStudioError, match="did not say"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_a_second_pass_finds_nothing(connected: Services) -> None:
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"


def test_another_label_studio_under_the_address_changes_nothing(connected: Services, label_studio: StandIn) -> None:
    """It started without its volume: the same address and token, and another project with this number."""
    tasks, annotations = dict(label_studio.tasks), dict(label_studio.annotations)
    label_studio.tasks.clear()
    label_studio.annotations.clear()
    label_studio.add_task(1, "/data/upload/4/stranger.jpg")
    label_studio.created_at, right = "2026-11-25T10:00:00Z", label_studio.created_at
    with pytest.raises(LabelStudioError, match="another Label Studio"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}
    assert connected.projects.get("4").source == SOURCE
    label_studio.created_at, label_studio.tasks, label_studio.annotations = right, tasks, annotations
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"


@pytest.mark.parametrize("what", ["tasks", "annotations", "last page"])
def test_a_list_that_contradicts_the_projects_own_count_deletes_nothing(
    connected: Services, label_studio: StandIn, what: str
) -> None:
    def odd(method: str, path: str, answer: Any) -> Any:
        if path.rstrip("/") != "/api/tasks":
            return answer
        if what == "last page":
            return {**answer, "tasks": answer["tasks"][:2]}
        is_annotations = any(task["annotations"] for task in answer["tasks"])
        return {**answer, "tasks": []} if is_annotations == (what == "annotations") else answer

    label_studio.answer = odd
    with pytest.raises(LabelStudioError, match=r"listed \d .*Nothing was deleted"):
        run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_skipped_annotations_are_counted(connected: Services, label_studio: StandIn) -> None:
    label_studio.annotate(12, 1, 7, was_cancelled=True)
    label_studio.add_task(4, "/data/upload/4/skipped.jpg")
    label_studio.annotate(40, 4, 7, was_cancelled=True)
    assert run(connected) == "4 tasks, 8 annotations (2 skipped), 3 missed events, 0 missed deletions"
    assert run(connected) == "4 tasks, 8 annotations (2 skipped), 0 missed events, 0 missed deletions"


def test_skips_that_the_project_counts_and_no_list_has_are_not_deleted(
    connected: Services, label_studio: StandIn
) -> None:
    label_studio.add_task(4, "/data/upload/4/skipped.jpg")
    label_studio.annotate(40, 4, 7, was_cancelled=True)
    run(connected)

    def odd(method: str, path: str, answer: Any) -> Any:
        if path.rstrip("/") != "/api/tasks":
            return answer
        return {
            **answer,
            "tasks": [{**task, "annotations": []} if task["id"] == 4 else task for task in answer["tasks"]],
        }

    label_studio.answer = odd
    with pytest.raises(LabelStudioError, match=r"listed 0 skipped annotations .* counts 1. Nothing was deleted"):
        run(connected)
    assert len(list(connected.journal.annotations("4"))) == 7
    label_studio.missing = "skipped_annotations_number"  # as a release of Label Studio that does not count them
    assert run(connected).endswith("0 missed events, 1 missed deletions")


def test_what_a_pass_cannot_use_is_counted_once(
    connected: Services, label_studio: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A task with annotations is in two lists."""
    label_studio.add_task(4, "", data={"text": "no image"})
    label_studio.annotate(40, 4, 3, RED)
    label_studio.annotate(12, 1, 7, ["Warm", "Rad"])
    label_studio.annotate(13, 1, 8, RED)
    label_studio.annotations[13]["result"] = "none"
    counted = (
        "1 × task without an image",
        "1 × name that the taxonomy does not have",
        "1 × annotation that cannot be read",
    )
    for missed in (1, 0):
        caplog.clear()
        outcome = run(connected)
        assert outcome.startswith("4 tasks, 9 annotations, 3 left out (")
        assert all(text in outcome for text in counted)
        assert outcome.endswith(f"{missed} missed events, 0 missed deletions")
        assert caplog.text.count("task 4: it has no image") == 1


def test_many_deletions_are_recorded_in_portions(
    connected: Services, label_studio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    record = Journal.record

    def portion(journal: Journal, events: Sequence[Event]) -> int:
        recorded.append(len(events))
        return record(journal, events)

    label_studio.tasks.clear()
    label_studio.annotations.clear()
    monkeypatch.setattr("taxonomist.backend.labelling.sync.CHUNK", 2)
    monkeypatch.setattr(Journal, "record", portion)
    assert run(connected).endswith("9 missed deletions")
    assert max(recorded) == 2
    assert labels(connected) == {}


def test_what_was_really_deleted_goes(connected: Services, label_studio: StandIn) -> None:
    del label_studio.tasks[3], label_studio.annotations[30], label_studio.annotations[31], label_studio.annotations[20]
    assert run(connected) == "2 tasks, 3 annotations, 0 missed events, 4 missed deletions"
    assert labels(connected) == {A: RED, B: None}


def test_what_the_api_shows_alive_lives_again(connected: Services) -> None:
    connected.journal.record([TaskDeleted("4", SOURCE, id) for id in "123"])
    connected.journal.record([AnnotationDeleted("4", SOURCE, f"{id}{n}") for id in "123" for n in "01"])
    decide_all_dirty(connected, "4")
    assert labels(connected) == {}
    run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}


@pytest.mark.parametrize("webhook", ["before the pass", "lost", "after the pass"])
def test_moved_annotations_follow_although_their_times_stay(
    connected: Services, label_studio: StandIn, webhook: str
) -> None:
    """*Remove duplicated tasks*: two tasks of one image, each with one annotation; the second task goes."""
    for id in (4, 5):
        label_studio.add_task(id, "/data/upload/4/twice.jpg")
        label_studio.annotate(10 * id, id, id, GREEN)
    run(connected)
    assert labels(connected)["/data/upload/4/twice.jpg"] == GREEN
    label_studio.annotations[50]["task"] = 4
    del label_studio.tasks[5]
    use_cases = UseCases(connected)
    deleted = parse_webhook({"action": "TASKS_DELETED", "project": label_studio.project(), "tasks": [{"id": 5}]})
    if webhook == "before the pass":
        use_cases.receive(deleted)
    run(connected)
    if webhook == "after the pass":
        use_cases.receive(deleted)
        decide_all_dirty(connected, "4")
    assert labels(connected)["/data/upload/4/twice.jpg"] == GREEN
    assert run(connected).endswith("0 missed events, 0 missed deletions")
    assert labels(connected)["/data/upload/4/twice.jpg"] == GREEN


def test_a_corrected_address_follows(connected: Services, label_studio: StandIn) -> None:
    label_studio.tasks[1]["data"] = {"image": "/data/upload/4/right.jpg"}
    run(connected)
    assert labels(connected) == {"/data/upload/4/right.jpg": RED, B: RED, C: RED}


def test_an_annotation_that_changed_without_a_new_time_follows(connected: Services, label_studio: StandIn) -> None:
    for id in (10, 11):
        label_studio.annotations[id]["result"][0]["value"] = {"taxonomy": [BLUE]}
    run(connected)
    assert labels(connected)[A] == BLUE


def test_a_star_that_moved_and_was_removed_decides_nothing(connected: Services, label_studio: StandIn) -> None:
    """Label Studio takes a star away from the other annotations of a task without a webhook or a new time."""
    use_cases = UseCases(connected)
    label_studio.annotate(12, 1, 7, GREEN)

    def star(id: int, given: bool, minute: int) -> None:
        label_studio.annotations[id] |= {"ground_truth": given, "updated_at": f"2026-11-24T15:{minute:02}:00Z"}
        use_cases.receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", id)))
        decide_all_dirty(connected, "4")

    star(12, True, 1)
    assert labels(connected)[A] == GREEN
    label_studio.annotations[12]["ground_truth"] = False  # what Label Studio does when the star moves
    star(10, True, 2)
    assert labels(connected)[A] == RED
    star(10, False, 3)
    assert labels(connected)[A] == RED  # two of three
    # Also when the webhook of the new star was lost.
    star(12, True, 4)
    label_studio.annotations[12]["ground_truth"] = False
    run(connected)
    assert labels(connected)[A] == RED


def test_a_correction_after_a_clock_that_was_ahead_follows(connected: Services, label_studio: StandIn) -> None:
    ahead = "2099-01-01T00:00:00Z"
    for id in (10, 11):
        label_studio.annotations[id] |= {"updated_at": ahead}
        label_studio.annotations[id]["result"][0]["value"] = {"taxonomy": [BLUE]}
    run(connected)
    assert labels(connected)[A] == BLUE
    for id in (10, 11):
        label_studio.annotations[id] |= {"updated_at": "2026-11-24T16:00:00Z"}
        label_studio.annotations[id]["result"][0]["value"] = {"taxonomy": [GREEN]}
    run(connected)
    assert labels(connected)[A] == GREEN


def test_deleted_accounts_keep_their_labels(connected: Services, label_studio: StandIn) -> None:
    for annotation in label_studio.annotations.values():
        annotation["completed_by"] = None
    assert run(connected).endswith("0 missed events, 0 missed deletions")
    label_studio.annotations[10]["updated_at"] = "2026-11-25T15:00:00Z"
    UseCases(connected).receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", 10)))
    decide_all_dirty(connected, "4")
    assert labels(connected) == {A: RED, B: RED, C: RED}
    (document,) = [found for found in connected.catalog.documents("4") if found.projects["4"].uri == A]
    assert sorted(entry.annotator_id for entry in document.labels_with_taxonomy) == [3, 5]


def test_nameless_annotations_that_were_never_known_count_one_by_one(
    connected: Services, label_studio: StandIn
) -> None:
    label_studio.add_task(4, "/data/upload/4/new.jpg")
    for id in (40, 41):
        label_studio.annotate(id, 4, None, GREEN)
    run(connected)
    assert labels(connected)["/data/upload/4/new.jpg"] == GREEN


def test_annotations_from_predictions_are_the_models(connected: Services, label_studio: StandIn) -> None:
    """*Create annotations from predictions* for all tasks, pressed by person 3; every suggestion is wrong."""
    label_studio.add_task(4, "/data/upload/4/open.jpg")
    for number in range(1, 5):
        made = {"lead_time": None, "parent_prediction": 100 + number, "updated_at": "2026-11-25T15:00:00Z"}
        label_studio.annotate(90 + number, number, 3, GREEN, **made)
    use_cases = UseCases(connected)
    for id in range(91, 95):
        use_cases.receive(parse_webhook(label_studio.webhook("ANNOTATIONS_CREATED", id)))
    decide_all_dirty(connected, "4")
    expected = {A: RED, B: RED, C: RED, "/data/upload/4/open.jpg": None}
    assert labels(connected) == expected
    run(connected)
    assert labels(connected) == expected
    # The predictions are deleted: Label Studio forgets where the annotations come from.
    for id in range(91, 95):
        label_studio.annotations[id]["parent_prediction"] = None
    assert run(connected).endswith("0 missed events, 0 missed deletions")
    assert labels(connected) == expected
    # A person corrects one, and another agrees.
    label_studio.annotations[94] |= {"lead_time": 3.1, "updated_at": "2026-11-25T16:00:00Z"}
    label_studio.annotate(95, 4, 5, GREEN)
    run(connected)
    assert labels(connected)["/data/upload/4/open.jpg"] == GREEN


def test_an_export_of_another_label_studio_stays_beside_the_live_annotations(
    connected: Services, tmp_path: Any
) -> None:
    """Both count from 1, so many ids are the same; the last task has ids that only the export has."""
    ids = (1, 2, 3, 8)
    tasks = [agreed(id, BLUE) | {"data": {"image": f"/data/upload/9/{id}.jpg"}} for id in ids]
    done = import_export(connected, write(tmp_path, tasks), project="4")
    assert (done.images, done.accepted) == (4, 4)
    both = {A: RED, B: RED, C: RED} | {f"/data/upload/9/{id}.jpg": BLUE for id in ids}
    assert labels(connected) == both
    assert run(connected) == "3 tasks, 6 annotations, 0 missed events, 0 missed deletions"
    assert labels(connected) == both


def test_annotators_of_two_sources_with_one_number_are_two_people(connected: Services, tmp_path: Any) -> None:
    theirs = [task(1, exported(1, 3, RED), exported(2, 5, BLUE)) | {"data": {"image": A}}]
    import_export(connected, write(tmp_path, theirs), project="4")
    (document,) = [found for found in connected.catalog.documents("4") if found.projects["4"].uri == A]
    people = {entry.annotator_id: entry.taxonomy for entry in document.labels_with_taxonomy}
    assert people == {3: [RED], 5: [RED], "3 of export.json": [RED], "5 of export.json": [BLUE]}
    assert document.projects["4"].detail == 'Named "Warm › Red" by 3 of 4.'
    assert document.projects["4"].task_id == "1"


def test_the_own_export_counts_nothing_twice(connected: Services, label_studio: StandIn, tmp_path: Any) -> None:
    label_studio.annotate(12, 1, 7, BLUE)
    run(connected)
    tasks = [
        {**task, "annotations": [found for found in label_studio.annotations.values() if found["task"] == id]}
        for id, task in label_studio.tasks.items()
    ]
    before = {document.id: document.labels_with_taxonomy for document in connected.catalog.documents("4")}
    import_export(connected, write(tmp_path, tasks), project="4")
    assert {document.id: document.labels_with_taxonomy for document in connected.catalog.documents("4")} == before
    del label_studio.annotations[10], label_studio.annotations[11]
    run(connected)
    assert labels(connected)[A] is None  # what was withdrawn in Label Studio does not live on in its export


def test_a_task_made_anew_keeps_the_part_of_its_image(connected: Services, label_studio: StandIn) -> None:
    """A storage is removed and synced again: the tasks get new ids."""

    def part_of(uri: str) -> str | None:
        document = connected.catalog.get(image_id(uri))
        assert document is not None
        return document.projects["4"].part if "4" in document.projects else None

    for uri, part in ((A, "train"), (B, "test")):
        document = connected.catalog.get(image_id(uri))
        assert document is not None
        in_part = document.projects["4"].model_copy(update={"part": part})
        connected.catalog.put(document.in_project("4", in_part))
    tasks, annotations = label_studio.tasks, label_studio.annotations
    label_studio.tasks, label_studio.annotations = {}, {}
    run(connected)
    assert labels(connected) == {}
    for number, uri in enumerate((A, B, C), start=7):
        label_studio.add_task(number, uri)
        for person in (3, 5):
            label_studio.annotate(100 * number + person, number, person, RED)
    run(connected)
    assert labels(connected) == {A: RED, B: RED, C: RED}
    assert [part_of(uri) for uri in (A, B, C)] == ["train", "test", None]
    assert (len(tasks), len(annotations)) == (3, 6)


def test_changes_to_and_fro_are_no_new_labels(connected: Services, label_studio: StandIn) -> None:
    """Images are counted whose label differs from that of the last training."""

    def train() -> None:
        for document in connected.catalog.documents("4", labelled=True):
            own = document.projects["4"]
            trained = document.in_project("4", own.model_copy(update={"trained": own.accepted}))
            connected.catalog.put(trained)
        connected.projects.update("4", changed_labels=0)

    def say(path: list[str], minute: int) -> int:
        for id in (10, 11):
            value = {"taxonomy": [path]}
            label_studio.annotations[id]["result"] = [{**label_studio.annotations[id]["result"][0], "value": value}]
            label_studio.annotations[id]["updated_at"] = f"2026-11-24T17:{minute:02}:00Z"
            UseCases(connected).receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", id)))
            decide_all_dirty(connected, "4")
        return connected.projects.get("4").changed_labels

    assert connected.projects.get("4").changed_labels == 3  # new images, whatever was said before
    train()
    version = connected.projects.get("4").labels_version
    counts = [say(path, minute) for minute, path in enumerate([BLUE, RED, GREEN, BLUE, GREEN, RED])]
    assert counts == [1, 0, 1, 1, 1, 0]
    assert connected.projects.get("4").labels_version > version + 5


def test_webhooks_of_another_label_studio_are_refused(
    connected: Services, label_studio: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    label_studio.created_at = "2026-11-25T10:00:00Z"
    label_studio.annotate(10, 1, 3, BLUE)
    receipt = UseCases(connected).receive(parse_webhook(label_studio.webhook("ANNOTATION_UPDATED", 10)))
    assert (receipt.new, receipt.known) == (0, 0)
    assert "another Label Studio" in (receipt.ignored or "")
    assert "another Label Studio" in caplog.text


def test_a_version_that_label_studio_does_not_know_is_announced_when_a_pass_succeeds(
    connected: Services, label_studio: StandIn
) -> None:
    """Label Studio was away while a training ended."""
    connected.projects.update("4", ml_backend=1, announced="taxonomist-v0")
    label_studio.answer = lambda method, path, answer: "away"
    with pytest.raises(LabelStudioError):
        run_job(connected, JobKind.SYNC, "4", lambda step, share: None)
    assert JobKind.PUSH not in [job.kind for job in connected.jobs.waiting()]
    label_studio.answer = lambda method, path, answer: answer
    run_job(connected, JobKind.SYNC, "4", lambda step, share: None)
    assert JobKind.PUSH in [job.kind for job in connected.jobs.waiting()]


def test_setup_of_another_label_studio_is_refused(connected: Services) -> None:
    use_cases = UseCases(connected)
    body = {"project": SOURCE, "schema": CONFIG}
    assert use_cases.set_up(parse_setup(body), authenticated=False, local=False)
    with pytest.raises(ConfigError, match="another Label Studio"):
        use_cases.set_up(parse_setup({**body, "project": "4.1795531999"}), authenticated=False, local=False)
    assert connected.projects.get("4").source == SOURCE


def test_connect_asks_before_another_project_takes_the_number(connected: Services, label_studio: StandIn) -> None:
    label_studio.created_at = "2026-11-25T10:00:00Z"
    label_studio.answers["/api/version"] = {"release": "1.23.2"}
    label_studio.answers["/api/current-user/whoami"] = {"id": 1, "email": "me@example.com", "username": "me"}
    asked: list[str] = []

    def connect(*, agree: bool) -> None:
        def may_replace(question: str) -> bool:
            asked.append(question)
            return agree

        connect_project(
            connected,
            "4",
            url=label_studio.url,
            api_key="t",
            ask=lambda question: True,
            say=lambda line: None,
            may_replace=may_replace,
        )

    with pytest.raises(ConfigError, match="was not connected"):
        connect(agree=False)
    assert connected.projects.get("4").source == SOURCE
    with pytest.raises(LabelStudioError):  # the stand-in has no ML backends
        connect(agree=True)
    assert connected.projects.get("4").source != SOURCE
    assert len(asked) == 2
    assert labels(connected) == {A: RED, B: RED, C: RED}


def test_a_choice_that_was_renamed_meanwhile_is_reported_and_its_decision_kept(
    connected: Services, label_studio: StandIn
) -> None:
    scarlet = CONFIG.replace('"Red"', '"Scarlet"')

    def answer(method: str, path: str, found: Any) -> Any:
        return {**found, "label_config": scarlet} if isinstance(found, dict) and "label_config" in found else found

    label_studio.answer = answer
    run(connected)
    assert labels(connected) == {A: ["Warm"], B: ["Warm"], C: ["Warm"]}
    (gone,) = labels_outside(connected, "4").gone
    assert (gone.path, gone.labels) == (("Warm", "Red"), 6)
    assert connected.projects.get("4").imports[SOURCE].left_out.keys() == {"name that the taxonomy does not have"}
    rename_labels(connected, "4", "Warm / Red", "Warm / Scarlet")
    for _ in range(2):
        run(connected)
        assert labels(connected) == {uri: ["Warm", "Scarlet"] for uri in (A, B, C)}
    label_studio.annotate(10, 1, 3, RED, updated_at="2026-11-25T15:00:00Z")  # a page that was open all the time
    run(connected)
    assert labels(connected)[A] == ["Warm", "Scarlet"]
    assert connected.projects.get("4").imports[SOURCE].left_out == {}
