"""Annotations, read from the JSON of Label Studio's webhooks, exports and API."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, StrictInt, StrictStr, TypeAdapter, ValidationError

from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.numbers import whole_number
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.tree import MAX_LEVELS, Tree

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NEAREST = 100  # unknown paths of an annotation whose nearest node is looked for, which takes milliseconds


@dataclass(frozen=True)
class UnknownPath:
    """A path of an annotation that is not in the tree, for example because the labelling config changed."""

    control: str
    path: TaxonomyPath
    nearest: TaxonomyPath | None
    known: TaxonomyPath = ()
    """The longest prefix that is in the tree; the annotator named at least these nodes."""

    def __str__(self) -> str:
        message = f'"{shorten(format_path(self.path))}" is not in the taxonomy "{self.control}"'
        return f'{message}, did you mean "{shorten(format_path(self.nearest))}"?' if self.nearest else message


@dataclass(frozen=True)
class UnreadableRegion:
    """A region that cannot be read, or some path in it; without a control where it names none. All others count."""

    control: str | None
    problem: str

    def __str__(self) -> str:
        of = "" if self.control is None else f' of "{shorten(self.control)}"'
        return f"a region{of} cannot be read: {self.problem}"


@dataclass(frozen=True)
class Annotation:
    """One annotation. Times are in UTC and have a time zone.

    `labels` maps each control to its paths that are in the tree, each path once, in the order given; a control without
    paths is missing. `reviewed`: the last review accepted the annotation; `rejected`: the last review rejected it.
    `by_model`: it was made from a prediction, and no person has looked at it. `foreign_controls` are the taxonomies and
    choices that it answers and the labelling config never had, as when it was made with another config.
    `bulk`: it was written to many tasks at once, and no person need have looked at this one by itself.
    `is_of_other_controls`: it answers such controls, or those that are gone, and none that the config has. So it says
    nothing about these, not even that they have no answer.
    """

    id: str
    task_id: str
    annotator: str
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, tuple[TaxonomyPath, ...]]
    unknown: tuple[UnknownPath, ...]
    skipped: bool
    ground_truth: bool
    reviewed: bool
    rejected: bool = False
    unreadable: tuple[UnreadableRegion, ...] = ()
    by_model: bool = False
    bulk: bool = False
    foreign_controls: tuple[str, ...] = ()
    is_of_other_controls: bool = False

    def of_controls(self, controls: Collection[str]) -> "Annotation":
        """Return the annotation with what it says in these controls only."""
        if self.labels.keys() <= set(controls):
            return self
        return replace(self, labels={control: paths for control, paths in self.labels.items() if control in controls})


class _Person(BaseModel):
    id: int | str | None = None
    email: str | None = None


class _Task(BaseModel):
    id: int | str


class _Review(BaseModel):
    accepted: bool | None = None
    created_at: datetime | None = None


class _RawAnnotation(BaseModel):
    id: int | str | None = None
    unique_id: str | None = None
    task: int | str | _Task | None = None
    completed_by: int | str | _Person | None = None
    created_username: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    result: list[Any] | None = None
    was_cancelled: bool | None = None
    ground_truth: bool | None = None
    reviews: list[_Review] | None = None
    parent_prediction: Any = None
    lead_time: Any = None
    bulk_created: bool | None = None


_PATH = TypeAdapter(list[StrictStr | StrictInt] | StrictStr | StrictInt)


def parse_annotation(data: Mapping[str, Any], config: LabelConfig, *, task_id: str | None = None) -> Annotation:
    """Return the annotation in Label Studio's JSON, with its known and its unknown paths.

    The annotator is `completed_by` (an id, or a person with `id` or `email`), else the id or name in
    `created_username`. Label Studio removes all of them with an account; each such annotation then counts as that of a
    person of its own ("unknown-31"). The task is `task_id` when given, else the field `task`. An annotation without a
    time, as in import files written by hand, gets the year 1970, so it is older than all others. Results of other
    controls are ignored. A region that cannot be read costs that region only.

    What Label Studio's *Create annotations from predictions* made has a prediction and no time that a person spent on
    it; it counts as the model's until a person changes, stars or reviews it.

    Raises BadRequestError for data that is not an annotation.
    """
    try:
        raw = _RawAnnotation.model_validate(data)
    except ValidationError as error:
        raise BadRequestError(f"This is not an annotation: {_first_problem(error)}.") from error
    identity = raw.id if raw.id is not None else raw.unique_id
    task = task_id if task_id is not None else raw.task.id if isinstance(raw.task, _Task) else raw.task
    for value, name in ((identity, "id"), (task, "task")):
        if value is None:
            raise BadRequestError(f'This is not an annotation: it has no "{name}".')
    created_at = _utc(raw.created_at or raw.updated_at)
    answers = _Answers(config, raw.result or [])
    accepted = _last_review(raw.reviews or [])
    return Annotation(
        id=str(identity),
        task_id=str(task),
        annotator=_annotator(raw) or f"unknown-{identity}",
        created_at=created_at,
        updated_at=_utc(raw.updated_at) if raw.updated_at else created_at,
        labels={control: tuple(paths) for control, paths in answers.labels.items()},
        unknown=tuple(answers.unknown.values()),
        skipped=bool(raw.was_cancelled),
        ground_truth=bool(raw.ground_truth),
        reviewed=accepted is True,
        rejected=accepted is False,
        unreadable=tuple(answers.unreadable),
        foreign_controls=tuple(answers.foreign),
        is_of_other_controls=answers.of_others and not answers.of_ours,
        bulk=bool(raw.bulk_created),
        by_model=raw.parent_prediction is not None
        and raw.lead_time is None
        and not raw.ground_truth
        and accepted is not True,
    )


def newest_of_each(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Return the newest annotation of each person, in the order of the annotators' names.

    Annotations that the model made are left out, although Label Studio names the person who pressed the button.
    """
    latest: dict[str, Annotation] = {}
    for annotation in annotations:
        if annotation.by_model:
            continue
        known = latest.get(annotation.annotator)
        if known is None or _age_key(annotation) > _age_key(known):
            latest[annotation.annotator] = annotation
    return tuple(latest[annotator] for annotator in sorted(latest))


def named_nodes(annotation: Annotation, control: str) -> frozenset[TaxonomyPath]:
    """Return every node that the annotation names in a control, inner nodes and known prefixes included."""
    paths = [*annotation.labels.get(control, ()), *(u.known for u in annotation.unknown if u.control == control)]
    return frozenset(node for path in paths for node in prefixes(path))


def newest(annotations: Iterable[Annotation]) -> Annotation | None:
    """Return the annotation that was saved last, None when there is none."""
    return max(annotations, key=_age_key, default=None)


def _age_key(annotation: Annotation) -> tuple[Any, ...]:
    # The id decides between annotations saved within one tick; Label Studio counts ids up, so 10 is newer than 9.
    number = whole_number(annotation.id)
    return annotation.updated_at, annotation.created_at, -1 if number is None else number, annotation.id


class _Answers:
    """The paths in the regions of an annotation, by control. Dictionaries serve as ordered sets: each path once."""

    def __init__(self, config: LabelConfig, regions: list[Any]) -> None:
        self.labels: dict[str, dict[TaxonomyPath, None]] = {}
        self.unknown: dict[tuple[str, TaxonomyPath], UnknownPath] = {}
        self.unreadable: list[UnreadableRegion] = []
        self.foreign: dict[str, None] = {}
        self.of_ours = self.of_others = False
        trees = {tree.control: tree for tree in config.trees}
        for region in regions:
            if not isinstance(region, Mapping):
                self.unreadable.append(UnreadableRegion(None, f"it is {shorten(repr(region))}"))
                continue
            name = region.get("from_name")
            if not isinstance(name, str):
                if _answers(region.get("value")):  # other regions, as relations, need no control
                    problem = f"its from_name is {shorten(repr(name))}, which is no control"
                    self.unreadable.append(UnreadableRegion(None, problem))
                continue
            tree = trees.get(config.present(name))
            if tree is not None or name in config.former_controls:
                self._read(name, tree, region.get("value"))
                self.of_ours |= tree is not None
                self.of_others |= tree is None
            elif _answers(region.get("value")) and not config.has_control(name):
                self.foreign[name] = None
                self.of_others = True

    def _read(self, control: str, tree: Tree | None, value: object) -> None:
        """Read the value of a region; there is no tree when its control is gone."""
        # A control may have been <Choices> before it became a <Taxonomy>, or the reverse.
        kind, other = ("choices", "taxonomy") if tree and tree.kind == "choices" else ("taxonomy", "choices")
        control = tree.control if tree else control
        items = value.get(kind, value.get(other)) if isinstance(value, Mapping) else None
        if not isinstance(items, list):
            self.unreadable.append(UnreadableRegion(control, f"its value is {shorten(repr(value))}"))
            return
        nested = kind == "taxonomy" and isinstance(value, Mapping) and "taxonomy" in value
        problems = []
        for item in items:
            try:
                self._add(control, tree, _path(item, nested=nested))
            except BadRequestError as error:
                problems.append(str(error))
        if problems:
            self.unreadable.append(UnreadableRegion(control, "; ".join(problems[:3])))

    def _add(self, control: str, tree: Tree | None, path: TaxonomyPath) -> None:
        if tree is None:
            self.unknown[control, path] = UnknownPath(control, path, None)
        elif node := tree.node_of(path):
            self.labels.setdefault(control, {})[node] = None
        else:
            nearest = tree.nearest(tree.current(path)) if len(self.unknown) < _MOST_NEAREST else None
            self.unknown[control, path] = UnknownPath(control, path, nearest, tree.known_prefix(path))


def _answers(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value.get("taxonomy") or value.get("choices"))


def _path(item: object, *, nested: bool) -> TaxonomyPath:
    """Return a path of a region; `nested`: it must be a list of names. Raises BadRequestError."""
    try:
        names = _PATH.validate_python(item)
    except ValidationError as error:
        raise BadRequestError(f"{shorten(repr(item))} is not a path: {_first_problem(error)}") from error
    if nested and not isinstance(names, list):
        raise BadRequestError(f"{shorten(repr(item))} is a name where a path belongs")
    if names == []:
        raise BadRequestError("it has an empty path")
    if not isinstance(names, list):
        return (str(names),)
    if len(names) > MAX_LEVELS:  # no taxonomy has such a path, and the time to look for it grows with its square
        raise BadRequestError(f"it has a path of {len(names):,} levels, and at most {MAX_LEVELS} are supported")
    return tuple(map(str, names))


def _annotator(raw: _RawAnnotation) -> str:
    person = raw.completed_by
    if isinstance(person, _Person):
        person = person.id if person.id is not None else person.email
    if person is None and raw.created_username:
        # " anna@example.com, 3": the number is the id that `completed_by` holds elsewhere.
        numbered = re.search(r",\s*(\d+)\s*$", raw.created_username)
        person = numbered.group(1) if numbered else raw.created_username.strip()
    return "" if person is None else str(person)


def _last_review(reviews: list[_Review]) -> bool | None:
    """Return whether the newest review with a decision accepted the annotation; None when there is no decision."""
    judged = [review for review in reviews if review.accepted is not None]
    # `max` keeps the first of equal items. On the reversed list this is the last review of the same time.
    newest = max(reversed(judged), key=lambda review: _utc(review.created_at), default=None)
    return newest.accepted if newest else None


def _utc(time: datetime | None) -> datetime:
    if time is None:
        return _LONG_AGO
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError as error:
        raise BadRequestError(f"This is not an annotation: its time {time} is out of range.") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    location = ".".join(map(str, problem["loc"]))
    return f"{location}: {problem['msg']}" if location else problem["msg"]
