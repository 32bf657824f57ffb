"""What is kept of an action that labelled many images goes with its project, and its tasks with their images."""

from __future__ import annotations

from datetime import UTC, datetime

from taxonomist.backend.forgetting.images import UnusedImages, forget_images
from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ActionState, BulkAction, BulkItem


def test_tasks_of_forgotten_images_and_actions_of_forgotten_projects_go(services: Services) -> None:
    table = services.bulk_labels
    forget_images(services, UnusedImages(["a"]))
    table.forget("4")
    assert (table.count("4"), (services.home / "bulk-labels.sqlite").exists()) == (0, False)
    for project in ("4", "5"):
        action = BulkAction(
            project, project, 3, "anna@example.com", datetime.now(UTC), {}, [], ActionState.PROPOSED, {}
        )
        table.propose(action, [BulkItem(1, "a"), BulkItem(2, "b")])
    forget_images(services, UnusedImages(["a"]))
    table.keep("4", [BulkItem(1, "a")])  # work on it was under way
    assert [item.image_id for item in table.items("4")] == ["b"]
    table.forget("4")
    assert ([table.count(project) for project in ("4", "5")], table.items("4")) == ([0, 1], [])
