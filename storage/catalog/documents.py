"""The document of one image: the fields of the thesis (table 4.1, listing 4.3), and those of our projects."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import (
    list_schema,
    no_info_after_validator_function,
    none_schema,
    str_schema,
    union_schema,
)

from taxonomist.storage.catalog.image_ids import image_id

__all__ = ["PRIVATE_FIELDS", "AnnotatorLabels", "ImageDocument", "ProjectLabels", "image_id", "is_private"]

PRIVATE_FIELDS = ("face_rects", "pii_entities")
_OTHER_PROGRAMS = (
    *PRIVATE_FIELDS,
    *("text", "artnr_ocr", "is_blurred", "servicereport_artnr", "servicereport_filename", "sortout"),
    *("sortout_testset", "labels_with_taxonomy"),
)
"""The fields that we do not write, or that have only what others wrote once an image has left all projects."""


def is_private(document: Mapping[str, Any]) -> bool:
    """Return whether a document, in JSON form, says that its image shows faces or personal data.

    Missing, null, false, an empty string and an empty list mean no; any other value means yes.
    """
    values = (document.get(name) for name in PRIVATE_FIELDS)
    return any(value is not None and value is not False and value != "" and value != [] for value in values)


# These are schemas rather than validators in Python, for which pydantic would first make objects of all the JSON.


class _NullIsEmpty:
    """A list or dictionary that other programs may write as null."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        empty = get_origin(source)
        null = no_info_after_validator_function(lambda _: empty(), none_schema())
        return union_schema([handler(source), null], mode="left_to_right")


class _MayBeFlat:
    """Paths of the taxonomy; listing 4.3 prints the single path of an annotator without the outer list."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        flat = no_info_after_validator_function(lambda path: [path], list_schema(str_schema()))
        return union_schema([handler(source), flat], mode="left_to_right")


class AnnotatorLabels(BaseModel):
    """The labels of one annotator. We add the fields `project`, `control` and `updated_at`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    annotator_id: int | str
    taxonomy: Annotated[list[list[str]], _MayBeFlat()] = []


class ProjectLabels(BaseModel):
    """What one project knows about an image: its address, its product, and, per control, its accepted labels.

    `group` is the product or the service report, `group_by` the project's product field where that named it.
    `unanswered` names the controls that annotators agree to leave empty. `bulk`: without what was written to many tasks
    at once, the labels would be others.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    uri: str
    task_id: str | None = None
    group: str | None = None
    group_by: str | None = None
    part: Literal["test", "train"] | None = None
    accepted: dict[str, list[list[str]]] = {}
    unanswered: list[str] = []
    bulk: bool = False
    trained: dict[str, list[list[str]]] = {}  # `accepted` at the last training
    reason: str | None = None
    detail: str | None = None
    decided_by: str | None = None
    updated_at: datetime | None = None

    @property
    def labelled(self) -> bool:
        """Whether any control has an accepted path."""
        return any(self.accepted.values())

    def paths(self, control: str) -> tuple[tuple[str, ...], ...]:
        """Return the accepted taxonomy paths of one control; empty when there are none."""
        return tuple(tuple(path) for path in self.accepted.get(control, ()))


class ImageDocument(BaseModel):
    """One image. Unknown fields are kept unchanged. Change a document with `model_copy(update=...)`."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    id: str
    uri_orig: str | None = None
    file_hash: str | None = None
    text: Any = None
    artnr_ocr: Any = None
    pii_entities: Any = None
    face_rects: Any = None
    is_blurred: bool | None = None
    resolution_width: int | None = None
    resolution_height: int | None = None
    servicereport_artnr: list[str] | None = None
    servicereport_filename: str | None = None
    sortout: str | None = None
    sortout_testset: bool | None = None
    has_imagerecognition_labels: bool | None = None
    labels_with_taxonomy: Annotated[list[AnnotatorLabels], _NullIsEmpty()] = []
    total_annotations: int | None = None
    has_review: bool | None = None
    projects: Annotated[dict[str, ProjectLabels], _NullIsEmpty()] = {}
    former_parts: dict[str, Literal["test", "train"]] = {}  # of projects that the image has left
    etag: str | None = Field(default=None, alias="_etag")

    @property
    def private(self) -> bool:
        """Whether the image shows faces or personal data."""
        return is_private({name: getattr(self, name) for name in PRIVATE_FIELDS})

    @property
    def unused(self) -> bool:
        """Whether the image is in no project, and no other program has written its document, or into it.

        Every document that we write has an address, and an id made from it.
        """
        if self.projects or self.uri_orig is None or image_id(self.uri_orig) != self.id:
            return False
        extra = self.model_extra or {}
        others = [getattr(self, name) for name in _OTHER_PROGRAMS]
        others += [extra[name] for name in extra if not name.startswith("_")]  # those are Cosmos DB's own
        return not any(value is not None and value != [] for value in others)

    def to_json(self) -> dict[str, Any]:
        """Return the document in JSON form as it is stored, with the key `_etag`."""
        return self.model_dump(mode="json", by_alias=True)

    def product(self, project: str) -> str | None:
        """Return the product, or the service report, that the image shows; None where it is not known."""
        labels = self.projects.get(project)
        return (labels.group if labels else None) or self.servicereport_filename

    def in_project(self, project: str, labels: ProjectLabels) -> "ImageDocument":
        """Return a copy with these labels of the project. An image that comes back has its former part."""
        if labels.part is None and project in self.former_parts:
            labels = labels.model_copy(update={"part": self.former_parts[project]})
        return self.model_copy(update={"projects": {**self.projects, project: labels}})

    def annotated(self, project: str, labels: Sequence[AnnotatorLabels], *, has_review: bool) -> "ImageDocument":
        """Return a copy with these annotators' labels for `project`; labels of other projects and programs are kept.

        `total_annotations` is the number of annotators, as in listing 4.3, not of controls that they used.
        """
        kept = [entry for entry in self.labels_with_taxonomy if (entry.model_extra or {}).get("project") != project]
        added = [entry.model_copy(update={"project": project}) for entry in labels]
        return self.model_copy(
            update={
                "labels_with_taxonomy": kept + added,
                "total_annotations": _annotators(kept + added),
                "has_imagerecognition_labels": bool(kept or added),
                "has_review": has_review,
            }
        )

    def without_project(self, project: str) -> "ImageDocument":
        """Return a copy without the project: without its entry and its annotators' labels.

        The part is kept: an image that a model was trained on must never test one, also after its task was made anew.
        """
        projects = {name: labels for name, labels in self.projects.items() if name != project}
        kept = [entry for entry in self.labels_with_taxonomy if (entry.model_extra or {}).get("project") != project]
        update: dict[str, Any] = {"projects": projects}
        if project in self.projects and (part := self.projects[project].part):
            update["former_parts"] = {**self.former_parts, project: part}
        if len(kept) != len(self.labels_with_taxonomy):
            update |= {"labels_with_taxonomy": kept, "total_annotations": _annotators(kept)}
            update |= {"has_imagerecognition_labels": bool(kept)}
            update |= {} if kept else {"has_review": None}
        return self.model_copy(update=update)


def _annotators(entries: Sequence[AnnotatorLabels]) -> int:
    return len({str(entry.annotator_id) for entry in entries})
