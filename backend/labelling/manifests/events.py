"""The journal's events of an import: those of webhooks, with the address of an image as the id of its task."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from taxonomist.backend.labelling.manifests.plan import ImportPlan
from taxonomist.backend.labelling.manifests.reading.rows import IMPORT_ANNOTATOR
from taxonomist.storage.journal import (
    EARLIER_IMPORT,
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)


class EventWriter:
    """Makes the events of an import from its plan."""

    def __init__(self, plan: ImportPlan, position: int, time: datetime) -> None:
        self._plan = plan
        self._position = position
        self._time = time
        difference = plan.stored
        self._saved = {*difference.new_images, *difference.products}
        self._changed: dict[str, list[str]] = {}
        for address, annotator in (*difference.new, *difference.changed):
            self._changed.setdefault(address, []).append(annotator)
        self._withdrawn: dict[str, list[str]] = {}
        for address, annotator in (*difference.emptied, *difference.removed):
            self._withdrawn.setdefault(address, []).append(annotator)
        self._gone = set(difference.removed_images)

    def events(self, address: str) -> Iterator[Event]:
        """Yield the events of one image."""
        plan, position = self._plan, self._position
        if address in self._saved:
            data = {"product": plan.now[address].product} if plan.now[address].product else {}
            yield TaskSaved(
                plan.project, plan.source, address, address, self._time, self._time, data, read_after=position
            )
        for annotator in self._changed.get(address, ()):
            yield self._annotation(address, annotator)
        for annotator in self._withdrawn.get(address, ()):
            yield AnnotationDeleted(plan.project, plan.source, f"{address}|{annotator}", self._time, position)
        if address in self._gone:
            yield TaskDeleted(plan.project, plan.source, address, self._time, position)
        if address in plan.state.former:
            yield TaskDeleted(plan.project, EARLIER_IMPORT, address, self._time, position)

    def _annotation(self, address: str, annotator: str) -> AnnotationSaved:
        tree = self._plan.tree
        assert tree is not None  # the manifest has a label, so there is a labelling config
        paths = self._plan.now[address].labels[annotator]
        whole = tree.kind == "taxonomy" or tree.nests_choices
        value = {str(tree.kind): [list(path) if whole else path[0] for path in paths]}
        time = self._time.isoformat()
        annotation = {
            "id": f"{address}|{annotator}",
            "task": address,
            "completed_by": annotator,
            "ground_truth": annotator == IMPORT_ANNOTATOR,
            "was_cancelled": False,
            "created_at": time,
            "updated_at": time,
            "result": [{"from_name": tree.control, "to_name": tree.to_name, "type": tree.kind, "value": value}],
        }
        return AnnotationSaved(
            project=self._plan.project,
            source=self._plan.source,
            annotation_id=f"{address}|{annotator}",
            task_id=address,
            uri=address,
            created_at=self._time,
            updated_at=self._time,
            data=annotation,
            read_after=self._position,
        )
