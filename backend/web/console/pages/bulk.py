"""Pages on which a lead labels many images in one action, sees what became of it, and undoes it.

Leads only: annotators label in Label Studio, and an action writes hundreds of opinions at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, g, make_response, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.labelling.bulk import MOST_IMAGES, propose, start, undo
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.backend.state.bulk_labels import MOST_ACTIONS, ActionState, BulkAction, ItemState
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.status.images import ImageTile, collect_images, find_tiles
from taxonomist.backend.web.console.bulk import wording
from taxonomist.backend.web.console.bulk.typed_paths import label_field, shown_path
from taxonomist.backend.web.console.bulk.wording import Absent
from taxonomist.backend.web.console.german import GERMAN
from taxonomist.backend.web.console.image_filters import filter_of, query_of, quoted
from taxonomist.backend.web.console.pages.addresses import link, see_other
from taxonomist.backend.web.console.pages.frame import Frame
from taxonomist.backend.web.console.session import Visitor
from taxonomist.backend.web.people import AuditLog, Person
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.label_config import LabelConfig

SAMPLE = 12  # images that are shown of an action
LISTED = 50  # images with a reason
RELOAD_S = 3
MAX_CHARACTERS = 2000  # of a typed path


@dataclass(frozen=True)
class _Images:
    """The images to label. `has_more`: the filter has others; `has_private`: some may not be shown, so not labelled."""

    tiles: Sequence[ImageTile]
    has_more: bool
    has_private: bool


def add_bulk_pages(pages: Blueprint, frame: Frame) -> None:
    """Add the routes."""
    services = frame.services
    audit_log = AuditLog(services.settings.home)

    def page(template: str, project: str, **values: object) -> str:
        return frame.project_page(template, project, "images", words=wording, quoted=quoted, **values)

    @pages.route("/project/<project>/label-many", methods=["GET", "POST"])
    @frame.for_leads
    def label_many(project: str) -> ResponseReturnValue:
        allowed = _allowed(frame, project)
        if isinstance(allowed, Absent):
            return page("label_many.html", project, absent=wording.ABSENT[allowed])
        person, config = allowed
        images, is_checked = _chosen(services, project), "check" in request.form
        fields = [
            label_field(tree, request.form.get(f"label-{number}", "")[:MAX_CHARACTERS])
            for number, tree in enumerate(config.trees)
        ]
        labels = {field.control: field.typed.path for field in fields if field.typed.path is not None}
        is_readable = not any(field.typed.problem for field in fields)
        if is_checked and is_readable and labels and images.tiles:
            wanted = [tile.image_id for tile in images.tiles]
            action = propose(services, project, wanted, labels, person=person.id, who=person.email)
            return see_other(link(project, "labelled-many", id=action.id))
        return page(
            "label_many.html",
            project,
            absent=None,
            fields=fields,
            lacks_label=is_checked and is_readable and not labels,
            tiles=images.tiles,
            sample=SAMPLE,
            most=MOST_IMAGES if images.has_more else None,
            has_private=images.has_private,
            selected=request.form.getlist("image"),
            query=query_of(filter_of(request.args)),
            who=person.email,
        )

    @pages.route("/project/<project>/labelled-many", methods=["GET", "POST"])
    @frame.for_leads
    def labelled_many(project: str) -> ResponseReturnValue:
        id, shown = request.values.get("id"), _Shown(services, project)
        if id is None:
            actions = services.bulk_labels.latest(project)
            return page("labelled_many.html", project, actions=actions, shown=shown.labels, most=MOST_ACTIONS)
        action = services.bulk_labels.get(project, id)
        if action is None:
            raise NotFoundError(f"Project {project} has no action {id}.")
        if request.method == "POST":
            change(project, action, shown.labels(action))
            return see_other(link(project, "labelled-many", id=id))
        job = next(iter(services.jobs.latest(project, JobKind.BULK, 1)), None)
        is_worked_on = job is not None and job.state in {JobState.WAITING, JobState.RUNNING}
        listed = services.bulk_labels.items(id, [ItemState.FAILED, ItemState.KEPT])
        tiles = find_tiles(services, project, [item.image_id for item in listed[:LISTED]])
        answer = make_response(
            page(
                "bulk_action.html",
                project,
                action=action,
                shown=shown.labels,
                waiting=action.counts.get(ItemState.WAITING, 0),
                done=_done(action),
                is_interrupted=action.is_running and not is_worked_on,
                failure=job.outcome if job is not None and job.state is JobState.FAILED else None,
                asks_undo=request.args.get("ask") == "undo" and _can_be_undone(action),
                listed=listed[:LISTED],
                listed_more=len(listed[LISTED:]),
                names={tile.image_id: tile.name for tile in tiles},
                known=GERMAN,
            )
        )
        if action.is_running and is_worked_on and "ask" not in request.args:
            answer.headers["Refresh"] = str(RELOAD_S)
        return answer

    def change(project: str, action: BulkAction, labels: Mapping[str, str]) -> None:
        """Begin, continue or undo an action, as the form says. What has begun already changes nothing."""
        what = f"{action.id}: {', '.join(f'{control}: {path}' for control, path in labels.items())}"
        name = _name(frame, project)
        match request.form.get("do"):
            case "start":
                person = frame.sessions.annotator(g.visitor, request.headers.get("Cookie"), project)
                if person is None or person.id != action.person:
                    raise NotFoundError(f"Project {project} has no action {action.id} of this person.")
                waiting = action.counts.get(ItemState.WAITING, 0)
                if start(services, project, action.id):
                    audit_log.add(name, "label-many", project=project, what=f"{waiting} × {what}")
            case "undo":
                if undo(services, project, action.id):
                    audit_log.add(name, "undo-labels", project=project, what=what, before=action.who)
            case "continue" if action.is_running:
                services.jobs.enqueue(JobKind.BULK, project, f"action {action.id}: continued")


class _Shown:
    """The labels of actions as people read them."""

    def __init__(self, services: Services, project: str) -> None:
        try:
            self._trees = {tree.control: tree for tree in services.label_config(project).trees}
        except ConfigError:
            self._trees = {}

    def labels(self, action: BulkAction) -> dict[str, str]:
        """Return the path of each control of an action."""
        return {control: shown_path(self._trees.get(control), path) for control, path in action.labels.items()}


def _allowed(frame: Frame, project: str) -> tuple[Person, LabelConfig] | Absent:
    """Return in whose name the visitor may label, and the labelling config; or why images cannot be labelled here."""
    services, visitor = frame.services, g.visitor
    assert isinstance(visitor, Visitor)
    if one_address(services, project) is None:
        return Absent.OTHER_ADDRESS
    try:
        config = services.label_config(project)
    except ConfigError:
        return Absent.NO_CONFIG
    if len(config.images) > 1:
        return Absent.SEVERAL_IMAGES
    person = frame.sessions.annotator(visitor, request.headers.get("Cookie"), project)
    return Absent.NO_PERSON if person is None else (person, config)


def _chosen(services: Services, project: str) -> _Images:
    """Return the images that were selected, else those of the filter."""
    selected = request.form.getlist("image")[: MOST_IMAGES + 1]
    if selected:
        found, has_more = find_tiles(services, project, selected[:MOST_IMAGES]), len(selected) > MOST_IMAGES
    else:
        page = collect_images(services, project, filter_of(request.args), limit=MOST_IMAGES)
        found, has_more = list(page.tiles), page.after is not None
    tiles = [tile for tile in found if not tile.is_private]
    return _Images(tiles, has_more, has_private=len(tiles) < len(found))


def _name(frame: Frame, project: str) -> str:
    """Return the name of the visitor for the list of changes: that of the person, where Label Studio knows it."""
    visitor: Visitor = g.visitor
    person = frame.sessions.annotator(visitor, request.headers.get("Cookie"), project)
    return person.email if person is not None else visitor.name


def _can_be_undone(action: BulkAction) -> bool:
    return action.state in {ActionState.WRITING, ActionState.WRITTEN}


def _done(action: BulkAction) -> int:
    """Return how many tasks of a running action are done with."""
    left = [ItemState.WAITING] + ([ItemState.WRITTEN] if action.state is ActionState.UNDOING else [])
    return action.tasks - sum(action.counts.get(state, 0) for state in left)
