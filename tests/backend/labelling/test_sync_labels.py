"""What passes and webhooks make of annotations that change, move, lose their author or come from predictions."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import rename_labels
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import labels_outside
from taxonomist.backend.services import Services
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.storage.catalog import image_id
from tests.backend.labelling.conftest import A, B, C, labels, run
from tests.label_studio_stand_in import BLUE, GREEN, RED, SOURCE, StandIn
from tests.small_world import CONFIG


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
