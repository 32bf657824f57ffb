"""The sentences of these pages that depend on values. Each is a key of `german.BULK`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from taxonomist.backend.labelling.bulk import LabelProblem
from taxonomist.backend.state.bulk_labels import ActionState, ItemState


class Absent(StrEnum):
    """Why images cannot be labelled here."""

    NO_CONFIG = "no_config"
    SEVERAL_IMAGES = "several_images"
    OTHER_ADDRESS = "other_address"
    NO_PERSON = "no_person"


ABSENT: Mapping[Absent, str] = {
    Absent.NO_CONFIG: "The labelling configuration of this project is not known yet.",
    Absent.SEVERAL_IMAGES: (
        "Tasks of this project show several images, so they are labelled one by one in Label Studio."
    ),
    Absent.OTHER_ADDRESS: (
        "A label needs the name of a person. Label Studio tells it where it shares one address with these pages, which "
        "is not so here."
    ),
    Absent.NO_PERSON: (
        "A label needs the name of a person. Log in to Label Studio in this browser, then reload this page."
    ),
}
PROBLEMS: Mapping[LabelProblem, str] = {
    LabelProblem.UNKNOWN: "The control has no such path.",
    LabelProblem.NOT_A_LEAF: "This control takes the last level only: choose a path below this one.",
}
STATES: Mapping[ActionState, str] = {
    ActionState.PROPOSED: "not confirmed",
    ActionState.WRITING: "being written",
    ActionState.WRITTEN: "written",
    ActionState.UNDOING: "being undone",
    ActionState.UNDONE: "undone",
}
COUNTS: Mapping[ItemState, tuple[str, str]] = {
    ItemState.WRITTEN: ("1 image is labelled.", "{count} images are labelled."),
    ItemState.REMOVED: ("1 label is removed.", "{count} labels are removed."),
    ItemState.KEPT: (
        "1 label stays, because a person has changed it since.",
        "{count} labels stay, because a person has changed them since.",
    ),
    ItemState.GONE: ("1 label was gone already.", "{count} labels were gone already."),
    ItemState.LEFT: ("1 image was not labelled any more.", "{count} images were not labelled any more."),
    ItemState.OWN: (
        "1 image has a label of this person already, which stays as it is.",
        "{count} images have a label of this person already, which stays as it is.",
    ),
    ItemState.FAILED: ("1 image cannot be labelled.", "{count} images cannot be labelled."),
    ItemState.WAITING: ("1 image waits.", "{count} images wait."),
}
