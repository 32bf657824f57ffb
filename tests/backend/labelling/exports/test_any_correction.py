"""Any two forms of a project's export: imported one after the other, they give what the second gives alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from tests.backend.labelling.exports.conftest import labels
from tests.backend.labelling.test_label_studio_export import BLUE, GREEN, RED, annotation
from tests.small_world import CONFIG

TASKS, ANNOTATIONS = 3, 6
CREATED = "2026-01-05T10:00:00.100001Z"
# These tests do not concern the disk, and waiting for it would take most of the time.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@st.composite
def exports(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An export with all tasks and annotations. Addresses, labels, stars, skips and the tasks of annotations differ."""
    times = {"created_at": CREATED, "updated_at": CREATED}
    tasks: list[dict[str, Any]] = [
        {"id": id, "data": {"image": f"/{draw(st.integers(1, 4))}.jpg"}, "annotations": [], **times}
        for id in range(1, TASKS + 1)
    ]
    for id in range(1, ANNOTATIONS + 1):
        fields = {"unique_id": f"u{id}", "ground_truth": draw(st.booleans()), "was_cancelled": draw(st.booleans())}
        paths = draw(st.sampled_from([[RED], [BLUE], [GREEN], [RED, BLUE], []]))
        task = draw(st.sampled_from(tasks))
        task["annotations"].append(annotation(id, id % 3, *paths, **fields, **times))
    return tasks


def state(services: Services) -> Any:
    journal = services.journal
    tasks = [(task.task_id, task.uri, task.data) for task in journal.tasks("7")]
    return tasks, [(found.annotation_id, found.task_id, found.uri, found.data) for found in journal.annotations("7")]


@settings(max_examples=25, deadline=None)
@given(st.lists(exports(), min_size=2, max_size=3))
def test_any_correction_is_followed(forms: list[list[dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = Path(folder) / "export.json"
        homes = [Services(Settings(home=Path(folder) / name)) for name in ("all", "last")]
        results = []
        for services, taken in zip(homes, (forms, forms[-1:]), strict=True):
            services.projects.update("7", label_config=CONFIG)
            for tasks in taken:
                file.write_text(json.dumps(tasks))
                done = import_export(services, file, project="7")
                assert (done.left_out, done.annotations) == (0, ANNOTATIONS)
            results.append((done, state(services), labels(services)))
        assert results[0] == results[1]
