"""What the journal has of a manifest's source, and of the project's other sources for the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taxonomist.backend.labelling.manifests.difference import SourceImage
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationRecord, Journal
from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class ProjectState:
    """The images of the source by their addresses, and what other sources say about an image by its id.

    `former` are images from manifests that were imported before sources had names. An entry of `others` is the
    source, the annotator and their paths; `images_of` are the image ids of each other manifest, and `other_addresses`
    the addresses of all of them. `unnamed` are the former images that the file does not name. `foreign` says that the
    source has tasks which no manifest made.
    """

    own: dict[str, SourceImage] = field(default_factory=dict)
    former: dict[str, SourceImage] = field(default_factory=dict)
    others: dict[str, list[tuple[str, str, tuple[TaxonomyPath, ...]]]] = field(default_factory=dict)
    images_of: dict[str, set[str]] = field(default_factory=dict)
    other_addresses: set[str] = field(default_factory=set)
    unnamed: tuple[str, ...] = ()
    foreign: bool = False

    def taken_over_by(self, now: Mapping[str, SourceImage]) -> ProjectState:
        """Return the state with only those former images that the manifest names; their products are not known."""
        former = {
            address: replace(image, product=now[address].product)
            for address, image in self.former.items()
            if address in now and address not in self.own
        }
        unnamed = tuple(sorted(self.former.keys() - now.keys()))
        return replace(self, former=former, unnamed=unnamed)


def read_state(journal: Journal, project: str, source: str, control: str | None) -> ProjectState:
    """Return what the journal has as of the last fold. Paths are those of `control`; there are none without one."""
    state, foreign = ProjectState(), False
    labels: dict[tuple[str, str], dict[str, tuple[TaxonomyPath, ...]]] = {}
    for record in journal.annotations(project):
        annotator, paths = str(record.data.get("completed_by")), _paths(record, control)
        if record.source == source or _is_former(record.source, record.task_id, record.uri):
            labels.setdefault((record.source, record.task_id), {})[annotator] = paths
        else:
            state.others.setdefault(record.image_id, []).append((record.source, annotator, paths))
    for task in journal.tasks(project):
        image = SourceImage(task.data.get("product"), labels.get((task.source, task.task_id), {}))
        if task.source == source:
            state.own[task.task_id] = image
            foreign = foreign or task.task_id != task.uri
        elif _is_former(task.source, task.task_id, task.uri):
            state.former[task.task_id] = image
        elif task.task_id == task.uri:
            state.images_of.setdefault(task.source, set()).add(task.image_id)
            state.other_addresses.add(task.uri)
    return replace(state, foreign=foreign)


def _is_former(source: str, task_id: str, uri: str) -> bool:
    """Return whether a task came from a manifest before sources had names: its id was its address."""
    return source == EARLIER_IMPORT and task_id == uri


def _paths(record: AnnotationRecord, control: str | None) -> tuple[TaxonomyPath, ...]:
    regions: list[Mapping[str, Any]] = [
        region for region in record.data.get("result") or [] if region.get("from_name") == control
    ]
    paths: list[TaxonomyPath] = []
    for region in regions:
        value = region["value"]
        paths += [tuple(path) for path in value.get("taxonomy", ())]
        paths += [(name,) if isinstance(name, str) else tuple(name) for name in value.get("choices", ())]
    return tuple(paths)
