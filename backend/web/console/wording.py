"""The sentences about values of a project: what needs a person, what is promised, what is being done.

Each sentence is a key of `german.GERMAN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from taxonomist.backend.status.needs import Need, NeedKind
from taxonomist.backend.status.overview import Work
from taxonomist.backend.status.versions import PromisedPrecision, VersionFigures
from taxonomist.backend.web.console.language import Language

JOBS: Mapping[str, str] = {
    "train": "Training",
    "embed": "Embedding of new images",
    "sync": "Pass over Label Studio",
    "push": "Suggestions for open tasks",
    "fill": "Suggestions for late tasks",
    "renew": "Renewal of the panel's key",
    "bulk": "Labels for many images",
    "backbone": "Making of the first backbone",
    "pretrain": "Pre-training",
    "adopt": "Adoption of a new backbone",
}
STATES: Mapping[str, str] = {
    "labelled": "accepted label",
    "not_annotated": "not annotated",
    "skipped": "skipped",
    "rejected": "rejected in review",
    "too_few_annotators": "too few annotators",
    "not_reviewed": "not reviewed",
    "empty": "left empty",
    "no_agreement": "disagreement",
    "unknown_paths": "node is not in the taxonomy",
    "unreadable": "annotation cannot be read",
    "other_controls": "other controls only",
}
ACTIONS: Mapping[str, str] = {
    "promote": "Promote",
    "roll-back": "Roll back",
    "retrain": "Retrain",
    "label-many": "Label many images",
    "undo-labels": "Undo the labels of many images",
}
_SET_ASIDE: Mapping[str, tuple[str, str]] = {
    "event": ("1 event could not be processed", "{count} events could not be processed"),
    "step": ("1 step of the worker failed", "{count} steps of the worker failed"),
    "job": ("1 kind of job fails again and again", "{count} kinds of jobs fail again and again"),
}
_TITLES: Mapping[NeedKind, tuple[str, str]] = {
    NeedKind.DAMAGED_RECORD: ("The record of the project is damaged", ""),
    NeedKind.LOST_RECORD: ("The record of the project was made anew", ""),
    NeedKind.NO_TAXONOMY: ("The project has no taxonomy yet", ""),
    NeedKind.CONFIG_REFUSED: ("The labelling configuration cannot be used", ""),
    NeedKind.WORKER_STOPPED: ("The worker does not run", ""),
    NeedKind.GONE_NODES: ("1 label of a node that is gone", "{count} labels of nodes that are gone"),
    NeedKind.UNKNOWN_NODES: ("1 label with a name that the taxonomy lacks", "{count} labels with names it lacks"),
    NeedKind.PROMISE_BROKEN: ("The promise of the suggestions is broken", ""),
    NeedKind.CANDIDATE: ("A new version waits for a decision", ""),
    NeedKind.DISAGREEMENT: ("1 image where annotators disagree", "{count} images where annotators disagree"),
    NeedKind.FEW_ANNOTATORS: ("1 image waits for further annotators", "{count} images wait for further annotators"),
    NeedKind.SECOND_OPINION: ("1 image waits for a further opinion", "{count} images wait for a further opinion"),
    NeedKind.UNREADABLE_ANNOTATIONS: (
        "1 image with annotations that cannot be read",
        "{count} images with annotations that cannot be read",
    ),
    NeedKind.UNREADABLE_IMAGES: ("1 image cannot be processed", "{count} images cannot be processed"),
    NeedKind.JOB_FAILED: ("A job has failed", ""),
    NeedKind.NOT_READ: ("A part of the project cannot be read", ""),
}
_IMAGE_STATES: Mapping[NeedKind, str] = {
    NeedKind.GONE_NODES: "unknown_paths",
    NeedKind.UNKNOWN_NODES: "unknown_paths",
    NeedKind.DISAGREEMENT: "no_agreement",
    NeedKind.FEW_ANNOTATORS: "too_few_annotators",
    NeedKind.SECOND_OPINION: "too_few_annotators",
    NeedKind.UNREADABLE_ANNOTATIONS: "unreadable",
}
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class ToDo:
    """A need in words, with the one place where it is decided. `error` is what a log says of it, in English.

    `link` is relative to the project's pages, None where there is no such page; `is_counted`: the count says something.
    """

    title: str
    text: str
    error: str | None
    link: str | None
    action: str
    count: int
    is_counted: bool
    is_blocking: bool


def to_do(need: Need, language: Language) -> ToDo:
    """Return a need in the words of a language."""
    link, action = _place(need, language)
    return ToDo(
        title=_title(need, language),
        text=" ".join(_sentences(need, language)),
        error=need.detail,
        link=link,
        action=action,
        count=need.count,
        is_counted=need.kind is NeedKind.SET_ASIDE or bool(_TITLES[need.kind][1]),
        is_blocking=need.kind in _BLOCKING,
    )


_BLOCKING = {
    NeedKind.DAMAGED_RECORD,
    NeedKind.NO_TAXONOMY,
    NeedKind.CONFIG_REFUSED,
    NeedKind.WORKER_STOPPED,
    NeedKind.GONE_NODES,
    NeedKind.PROMISE_BROKEN,
    NeedKind.JOB_FAILED,
}


def _title(need: Need, language: Language) -> str:
    if need.kind is NeedKind.SET_ASIDE:
        return language.n(need.count, *_SET_ASIDE[need.names[0]])
    if need.kind is NeedKind.JOB_FAILED:
        return language.t("A job has failed: {job}", job=language.t(JOBS[need.names[0]]))
    one, many = _TITLES[need.kind]
    return language.n(need.count, one, many) if many else language.t(one)


def _sentences(need: Need, language: Language) -> list[str]:
    t, names = language.t, _names(need, language)
    found: list[str] = []
    match need.kind:
        case NeedKind.WORKER_STOPPED:
            found.append(t("Nothing is decided, trained or suggested until it runs: taxonomist serve starts both."))
        case NeedKind.GONE_NODES:
            found.append(t("They name {names}. Training and promotion wait until a person decides.", names=names))
        case NeedKind.UNKNOWN_NODES:
            found.append(t("They name {names}. Add the nodes to the taxonomy, or correct the labels.", names=names))
        case NeedKind.PROMISE_BROKEN:
            found.append(t("Too many suggestions for {names} were wrong; fewer are made since then.", names=names))
        case NeedKind.CANDIDATE:
            found.append(t("Version {names} is trained and is not served.", names=names))
        case NeedKind.FEW_ANNOTATORS:
            people = language.n(need.people, "1 person annotates", "{count} people annotate")
            found.append(t("{people}; a label needs {needed} who agree.", people=people, needed=need.needed))
        case NeedKind.SECOND_OPINION:
            found.append(t("A label needs {needed} annotators who agree.", needed=need.needed))
        case NeedKind.LOST_RECORD | NeedKind.DAMAGED_RECORD:
            found.append(t("No label is lost."))
        case _:
            pass
    if need.since is not None:
        is_one = need.count == 1
        found.append(t("Since {ago}." if is_one else "Oldest: {ago}.", ago=language.ago(need.since)))
    return found


def _names(need: Need, language: Language) -> str:
    quoted = [f"„{name}“" if language.code == "de" else f"“{name}”" for name in need.names[:_NAMES_SHOWN]]
    more = len(need.names) - _NAMES_SHOWN
    if more > 0:
        quoted.append(language.n(more, "1 more", "{count} more"))
    return ", ".join(quoted)


def _place(need: Need, language: Language) -> tuple[str | None, str]:
    if state := _IMAGE_STATES.get(need.kind):
        return f"images?state={state}", language.t("See images")
    if need.kind is NeedKind.CANDIDATE:
        return f"promote?version={quote(need.names[0], safe='')}", language.t("Decide")
    if need.kind in {NeedKind.UNREADABLE_IMAGES, NeedKind.SET_ASIDE}:
        return "set-aside", language.t("See")
    return None, ""


def promise_words(promise: PromisedPrecision, language: Language) -> str:
    """Return what is promised of suggestions for a control."""
    t = language.t
    if promise.suggests:
        target = language.percent(promise.target)
        how = "{target} of the paths are right, promised." if promise.sure else "{target} are right, on average."
        return t(how, target=target)
    if promise.floor is not None:
        return t("Nothing is suggested until a new version keeps its promise.")
    labels = language.number(promise.labels)
    needed = language.number(promise.labels_needed or 2 * promise.labels)
    lists = t(" Where a few paths can be promised, they are listed.") if promise.has_shortlists else ""
    return t("No path is promised yet: {labels} of about {needed} labels.", labels=labels, needed=needed) + lists


def tested_words(version: VersionFigures, language: Language) -> str:
    """Return what the figures of a version rest on."""
    if not version.test_images:
        return language.t("There are no test images yet, so nothing is known about unseen products.")
    images = language.n(version.test_images, "1 image", "{count} images")
    products = language.n(version.test_products, "1 product", "{count} products")
    if version.products_known:
        return language.t(
            "On {images} of {products} that no version has learned from.", images=images, products=products
        )
    return language.t("On {images}. Products are not known, so the figure may be too good.", images=images)


def work_words(work: Work, language: Language) -> str:
    """Return what a job does."""
    return language.t(JOBS[work.kind])
