"""500 images are labelled in one action in a real Label Studio, and undone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx

from taxonomist.backend.demo.accounts import Account, checked
from taxonomist.backend.label_studio import LabelStudioClient
from taxonomist.backend.labelling.bulk import MOST_IMAGES, propose, start, undo
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ItemState
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run
from taxonomist.storage.catalog import image_id
from tests.e2e.in_process import NO_MODEL, Ours
from tests.small_world import CONFIG

RED = [{"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["Warm", "Red"]]}}]
IMAGES = [f"/data/upload/bulk/{number}.jpg" for number in range(MOST_IMAGES)]


def annotators_of(services: Services, project: str, image: str) -> tuple[list[str], str | None]:
    """Return who has an opinion on an image, and why it has no label."""
    decide_all_dirty(services, project)
    document = services.catalog.get(image_id(image))
    assert document is not None
    return sorted(str(row.annotator_id) for row in document.labels_with_taxonomy), document.projects[project].reason


def test_500_images_are_labelled_by_a_person_and_undone(
    ours: Ours, owner: httpx.Client, annotators: list[Account], client: LabelStudioClient
) -> None:
    anna, bertil, _ = annotators
    assert anna.user_id is not None
    made = checked(owner.post("/api/projects/", json={"title": "Bulk", "label_config": CONFIG})).json()
    project, number = str(made["id"]), int(made["id"])
    ours.connect(number, NO_MODEL)
    tasks = [{"data": {"image": image}} for image in IMAGES]
    checked(owner.post(f"/api/projects/{project}/import", params={"return_task_ids": "true"}, json=tasks))
    services = ours.services
    decide_all_dirty(services, project)
    assert services.catalog.count(project) == MOST_IMAGES
    task_of = {task.uri: int(task.task_id) for task in services.journal.tasks(project)}

    def annotate(account: Account, image: str) -> dict[str, Any]:
        with account.client(str(owner.base_url)) as person:
            body = {"result": RED, "lead_time": 2.0}
            answer: dict[str, Any] = checked(person.post(f"/api/tasks/{task_of[image]}/annotations/", json=body)).json()
            return answer

    annotate(bertil, IMAGES[0])
    annotate(anna, IMAGES[1])
    wanted = [image_id(image) for image in IMAGES]
    action = propose(services, project, wanted, {"colour": ("Warm", "Red")}, person=anna.user_id, who=anna.email)
    start(services, project, action.id)
    assert f"{MOST_IMAGES - 1} written" in run(services, JobKind.BULK, project, lambda step, share: None)

    shown = [found for task in client.export_annotations(project) for found in task["annotations"]]
    assert Counter(found["created_username"].strip() for found in shown) == {
        f"anna@example.com, {anna.user_id}": MOST_IMAGES,
        f"bertil@example.com, {bertil.user_id}": 1,
    }
    assert Counter(found["bulk_created"] for found in shown) == {True: MOST_IMAGES - 1, False: 2}
    services.journal.fold()  # what was written, and the webhooks about it
    assert len(list(services.journal.annotations(project))) == MOST_IMAGES + 1
    assert annotators_of(services, project, IMAGES[9]) == ([str(anna.user_id)], "too_few_annotators")
    people = sorted([str(anna.user_id), str(bertil.user_id)])
    assert annotators_of(services, project, IMAGES[0]) == (people, None)

    by_task = {item.task: item for item in services.bulk_labels.items(action.id)}
    changed, begun = by_task[task_of[IMAGES[2]]], by_task[task_of[IMAGES[3]]]
    with anna.client(str(owner.base_url)) as person:
        checked(person.patch(f"/api/annotations/{changed.annotation}/", json={"result": RED}))
        draft = f"/api/tasks/{begun.task}/annotations/{begun.annotation}/drafts"
        checked(person.post(draft, json={"result": RED, "lead_time": 1.0}))
    undo(services, project, action.id)
    run(services, JobKind.BULK, project, lambda step, share: None)
    undone = services.bulk_labels.get(project, action.id)
    assert undone is not None
    assert undone.counts == {ItemState.OWN: 1, ItemState.KEPT: 2, ItemState.REMOVED: MOST_IMAGES - 3}
    assert client.project(project).annotations == 4
    assert annotators_of(services, project, IMAGES[9]) == ([], "not_annotated")
    assert annotators_of(services, project, IMAGES[0]) == ([str(bertil.user_id)], "too_few_annotators")
