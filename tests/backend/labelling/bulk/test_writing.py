"""Labels for many tasks in one action: written once, in a person's name, and undone where they were not changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.labelling.acceptance import count_accepted
from taxonomist.backend.labelling.bulk import MOST_IMAGES, propose, start, undo
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ActionState, BulkAction, ItemState
from taxonomist.backend.state.bulk_labels import actions as table
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.backend.worker.job_runner import run as run_job
from taxonomist.storage.catalog import image_id
from taxonomist.storage.journal import TaskSaved
from taxonomist.taxonomy.errors import BadRequestError, LabelStudioError
from tests.label_studio_stand_in import BLUE, DAY, RED, SOURCE, StandIn
from tests.small_world import CONFIG

TASKS = 30  # more than are written together
ANNA, BERTIL = 3, 5
WARM = {"colour": ("Warm", "Red")}
CREATED_AT = datetime.fromisoformat(DAY)
Counts = dict[ItemState, int]


def uri(task: int) -> str:
    return f"/data/upload/4/{task}.jpg"


@pytest.fixture
def label_studio() -> Iterator[StandIn]:
    """Thirty tasks; Anna has labelled the first, Bertil the second."""
    with StandIn() as running:
        for number in range(1, TASKS + 1):
            running.add_task(number, uri(number))
        running.annotate(1, 1, ANNA, BLUE)
        running.annotate(2, 2, BERTIL, RED)
        yield running


@pytest.fixture
def connected(services: Services, label_studio: StandIn) -> Services:
    services.projects.update(
        "4",
        label_config=CONFIG,
        label_studio_url=label_studio.url,
        api_key=SecretStr("t"),
        created=SOURCE.partition(".")[2],
    )
    for annotation in (1, 2):
        services.journal.record(parse_webhook(label_studio.webhook("ANNOTATION_CREATED", annotation)).events)
    services.journal.record([TaskSaved("4", SOURCE, str(task), uri(task), CREATED_AT) for task in range(3, TASKS + 1)])
    services.journal.fold()
    return services


def proposed(services: Services, tasks: range = range(1, TASKS + 1), labels: Any = None) -> BulkAction:
    images = [image_id(uri(task)) for task in tasks]
    return propose(services, "4", images, labels or WARM, person=ANNA, who="anna@example.com")


def work(services: Services) -> str:
    return run_job(services, JobKind.BULK, "4", lambda step, share: None)


def counts(services: Services, action: BulkAction) -> Counts:
    found = services.bulk_labels.get("4", action.id)
    assert found is not None
    return dict(found.counts)


def of_person(label_studio: StandIn, person: int) -> Counter[int]:
    return Counter(row["task"] for row in label_studio.annotations.values() if row["completed_by"] == person)


def opinions(services: Services, task: int) -> list[str]:
    """Return who has an opinion on the image of a task."""
    decide_all_dirty(services, "4")
    document = services.catalog.get(image_id(uri(task)))
    assert document is not None
    return sorted(str(entry.annotator_id) for entry in document.labels_with_taxonomy)


def test_an_action_is_written_once_and_undone(connected: Services, label_studio: StandIn) -> None:
    action = proposed(connected)
    assert counts(connected, action) == {ItemState.OWN: 1, ItemState.WAITING: 29}
    assert [start(connected, "4", action.id) for _ in range(2)] == [True, False]
    assert len(connected.jobs.latest("4", JobKind.BULK)) == 1
    assert work(connected) == f"action {action.id} is written (1 own, 29 written)"
    assert of_person(label_studio, ANNA) == Counter(range(1, TASKS + 1))
    written = [row for row in label_studio.annotations.values() if row["completed_by"] == ANNA and row["id"] != 1]
    assert all(row["bulk_created"] and row["result"][0]["value"] == {"taxonomy": [["Warm", "Red"]]} for row in written)
    assert opinions(connected, 2) == [str(ANNA), str(BERTIL)]
    assert opinions(connected, 9) == [str(ANNA)]
    for row in written:  # Label Studio's webhooks about them come later, and again
        body = {**label_studio.webhook("ANNOTATION_CREATED", row["id"]), "action": "ANNOTATION_CREATED"}
        connected.journal.record(parse_webhook(body).events)
    connected.journal.fold()
    assert len(list(connected.journal.annotations("4"))) == TASKS + 1
    assert sync(connected, "4", lambda step, share: None).endswith("28 missed events, 0 missed deletions")  # tasks

    assert [undo(connected, "4", action.id) for _ in range(2)] == [True, False]
    assert work(connected) == f"action {action.id} is undone (1 own, 29 removed)"
    assert set(label_studio.annotations) == {1, 2}
    assert (opinions(connected, 2), opinions(connected, 9)) == ([str(BERTIL)], [])
    assert work(connected) == "nothing is to be written"


def test_an_undo_keeps_what_a_person_has_changed(connected: Services, label_studio: StandIn) -> None:
    action = proposed(connected, range(3, 13))
    start(connected, "4", action.id)
    work(connected)
    of_task = {row["task"]: row for row in label_studio.annotations.values()}
    of_task[3]["updated_at"] = label_studio._now()  # saved again as it was
    of_task[4]["result"] = []
    of_task[5]["ground_truth"] = True
    label_studio.drafts |= {6, 7}  # Anna is about to change hers, Bertil has begun his own
    label_studio.changing.add(of_task[6]["id"])
    label_studio.annotate(99, 8, ANNA, BLUE)  # a second one of hers
    del label_studio.annotations[of_task[9]["id"]]
    del label_studio.tasks[10], label_studio.annotations[of_task[10]["id"]]
    undo(connected, "4", action.id)
    work(connected)
    assert counts(connected, action) == {ItemState.KEPT: 4, ItemState.REMOVED: 4, ItemState.GONE: 2}
    assert set(of_person(label_studio, ANNA)) == {1, 3, 4, 5, 6, 8}
    assert label_studio.annotations[99]["task"] == 8


@pytest.mark.parametrize("lost", ["nothing", "the record"])
def test_what_was_interrupted_goes_on(
    connected: Services, label_studio: StandIn, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = proposed(connected)
    start(connected, "4", action.id)
    label_studio.refuse = lambda method, path: 503 if path == "/api/tasks/20/annotations" else None
    with monkeypatch.context() as patch:
        if lost == "the record":  # the process ends before it is kept what was written
            patch.setattr(connected.bulk_labels, "keep", lambda action, items: None)
        with pytest.raises(LabelStudioError, match="503"):
            work(connected)
    assert len(of_person(label_studio, ANNA)) > 1
    label_studio.refuse = lambda method, path: None
    work(connected)
    assert of_person(label_studio, ANNA) == Counter(range(1, TASKS + 1))
    assert counts(connected, action) == {ItemState.OWN: 1, ItemState.WRITTEN: 29}


def test_what_was_interrupted_is_undone(connected: Services, label_studio: StandIn) -> None:
    action = proposed(connected)
    start(connected, "4", action.id)
    label_studio.refuse = lambda method, path: 503 if path == "/api/tasks/20/annotations" else None
    with pytest.raises(LabelStudioError):
        work(connected)
    items = connected.bulk_labels.items(action.id, [ItemState.WRITTEN])
    lost = [replace(item, state=ItemState.WAITING, annotation=None) for item in items[:3]]
    connected.bulk_labels.keep(action.id, lost)
    undo(connected, "4", action.id)
    work(connected)
    assert of_person(label_studio, ANNA) == Counter([1])
    assert counts(connected, action)[ItemState.REMOVED] == len(items)
    assert ItemState.WAITING not in counts(connected, action)


def test_an_annotation_that_is_not_listed_yet_is_not_written_again(connected: Services, label_studio: StandIn) -> None:
    action = proposed(connected, range(9, 10))
    start(connected, "4", action.id)
    work(connected)
    [item] = connected.bulk_labels.items(action.id)
    connected.bulk_labels.keep(action.id, [replace(item, state=ItemState.WAITING, annotation=None)])
    connected.bulk_labels.move("4", action.id, ActionState.WRITING, of=[ActionState.WRITTEN])
    lists = iter([True])

    def once(method: str, path: str, answer: Any) -> Any:
        if path == "/api/tasks" and next(lists, False):
            return {**answer, "tasks": [{**task, "annotations": []} for task in answer["tasks"]]}
        return answer

    label_studio.answer = once
    work(connected)
    assert (of_person(label_studio, ANNA)[9], counts(connected, action)) == (1, {ItemState.WRITTEN: 1})


def test_a_task_that_cannot_be_labelled_costs_no_other(connected: Services, label_studio: StandIn) -> None:
    del label_studio.tasks[9]
    label_studio.annotate(50, 10, ANNA, BLUE)  # no webhook has told of it
    label_studio.refuse = lambda method, path: 400 if path == "/api/tasks/11/annotations" else None
    images = [image_id(uri(task)) for task in range(8, 13)] + ["unknown"]
    action = propose(connected, "4", images, WARM, person=ANNA, who="anna@example.com")
    start(connected, "4", action.id)
    work(connected)
    found = {item.task: (item.state, item.problem) for item in connected.bulk_labels.items(action.id)}
    assert found == {
        -1: (ItemState.FAILED, "It has no task in Label Studio."),
        8: (ItemState.WRITTEN, ""),
        9: (ItemState.FAILED, "Its task is gone from Label Studio."),
        10: (ItemState.OWN, ""),
        11: (ItemState.FAILED, "refused"),
        12: (ItemState.WRITTEN, ""),
    }


def test_a_label_that_the_config_has_lost_is_not_written(connected: Services, label_studio: StandIn) -> None:
    action = proposed(connected, range(9, 11))
    label_studio.label_config = CONFIG.replace('<Choice value="Red"/>', "")
    start(connected, "4", action.id)
    work(connected)
    problems = {item.problem for item in connected.bulk_labels.items(action.id)}
    assert problems == {"The labelling config does not take the label any more."}


@pytest.mark.parametrize(
    ("kept", "message"), [({"bulk_created": False}, "one of many"), ({"completed_by": 1}, "whose annotation it is")]
)
def test_a_label_studio_that_loses_person_or_mark_gets_no_labels(
    connected: Services, label_studio: StandIn, kept: dict[str, Any], message: str
) -> None:
    label_studio.changes_annotations = kept
    start(connected, "4", proposed(connected).id)
    with pytest.raises(LabelStudioError, match=message):
        work(connected)
    assert set(label_studio.annotations) == {1, 2}


@pytest.mark.parametrize(
    ("controls", "labels", "written"),
    [
        (
            """<Taxonomy name="colour" toName="image">
            <Choice value="Warm" alias="w"><Choice value="Red"/></Choice></Taxonomy>
            <Taxonomy name="shape" toName="image"><Choice value="Round"/></Taxonomy>""",
            {"colour": ("w", "Red"), "shape": ("Round",)},
            [("taxonomy", {"taxonomy": [["w", "Red"]]}), ("taxonomy", {"taxonomy": [["Round"]]})],
        ),
        (
            """<Choices name="colour" toName="image"><Choice value="Red" alias="r"/></Choices>
            <Choices name="shape" toName="image"><Choice value="Round"/></Choices>""",
            {"colour": ("r",)},
            [("choices", {"choices": ["r"]})],
        ),
    ],
)
def test_aliases_choices_and_several_controls(
    connected: Services, label_studio: StandIn, controls: str, labels: Any, written: Any
) -> None:
    label_studio.label_config = f'<View><Image name="image" value="$image"/>{controls}</View>'
    connected.projects.update("4", label_config=label_studio.label_config)
    start(connected, "4", proposed(connected, range(9, 10), labels).id)
    work(connected)
    [row] = [row for row in label_studio.annotations.values() if row["task"] == 9]
    assert [region["from_name"] for region in row["result"]] == list(labels)
    assert [(region["type"], region["value"]) for region in row["result"]] == written


@pytest.mark.parametrize(
    ("labels", "attributes", "message"),
    [
        ({}, "", "No control has a path"),
        ({"size": ("Big",)}, "", 'no control "size"; it has colour'),
        ({"colour": ("Warm", "Redd")}, "", '"Warm › Redd" is not in the taxonomy "colour", did you mean "Warm › Red"?'),
        ({"colour": ("Warm",)}, 'leafsOnly="true"', '"colour" takes leaves only, and "Warm" has choices below it.'),
    ],
)
def test_paths_that_the_config_does_not_take_are_refused(
    connected: Services, labels: Any, attributes: str, message: str
) -> None:
    connected.projects.update("4", label_config=CONFIG.replace("<Taxonomy ", f"<Taxonomy {attributes} "))
    with pytest.raises(BadRequestError) as refused:
        propose(connected, "4", [image_id(uri(9))], labels, person=ANNA, who="anna@example.com")
    assert message in str(refused.value)
    assert connected.bulk_labels.count("4") == 0


def test_no_more_images_than_the_bound(connected: Services) -> None:
    with pytest.raises(BadRequestError, match=f"501 images; 1 to {MOST_IMAGES}"):
        propose(connected, "4", [str(number) for number in range(501)], WARM, person=ANNA, who="anna@example.com")


def test_labels_that_rest_on_an_action_are_marked_and_judge_no_suggestion(
    connected: Services, label_studio: StandIn
) -> None:
    connected.suggestions.add(
        "4",
        [
            StoredSuggestion(str(task), "colour", "taxonomist-v1", image_id(uri(task)), ("Warm", "Red"), 0.9, 1.0)
            for task in (2, 3)
        ],
    )
    label_studio.annotate(30, 3, BERTIL, RED)
    label_studio.annotate(31, 3, 7, RED)
    sync(connected, "4", lambda step, share: None)
    start(connected, "4", proposed(connected, range(2, 5)).id)
    work(connected)
    decide_all_dirty(connected, "4")
    documents = connected.catalog.get_many([image_id(uri(task)) for task in (2, 3, 4)])
    found = [documents[image_id(uri(task))].projects["4"] for task in (2, 3, 4)]
    # Bertil and the action agree on task 2; two people agree on task 3 without it; task 4 has no label yet.
    assert [(labels.labelled, labels.bulk) for labels in found] == [(True, True), (True, False), (False, False)]
    assert connected.suggestions.judged_images("4", "taxonomist-v1", right=True, after="", limit=9) == [
        image_id(uri(3))
    ]
    assert count_accepted(connected, "4")["taxonomist-v1"].shown == 3  # Bertil's on both, and the third person's


def test_few_proposals_and_actions_are_kept(connected: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_ACTIONS", 2)
    monkeypatch.setattr(table, "MOST_PROPOSALS", 3)
    first = [proposed(connected, range(9, 10)).id for _ in range(4)]
    assert [connected.bulk_labels.get("4", id) is not None for id in first] == [False, True, True, True]
    for id in first[1:]:
        start(connected, "4", id)
        work(connected)
    proposed(connected, range(9, 10))
    assert [action.id for action in connected.bulk_labels.latest("4")] == [first[3], first[2]]
    assert connected.bulk_labels.items(first[1]) == []
