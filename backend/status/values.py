"""The values of `taxonomist status`. Its text and its JSON are made of the same values; times are in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import LabelsOutside
from taxonomist.backend.state.suggestions import AnswerCount


@dataclass(frozen=True)
class SourceStatus:
    """What is kept from a source: a Label Studio project, or an imported file.

    The last import, or the last pass over Label Studio, read `entries` tasks or rows. `left_out` counts by reason what
    of them could not be used. Since `read_at` each one read the same. None and empty where that is not recorded.
    """

    name: str
    label_studio: bool
    tasks: int
    annotations: int
    read_at: datetime | None = None
    entries: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagesStatus:
    """The images of a project: how many have an accepted label, and by reason how many have none.

    `to_decide` are those whose annotations changed, and whose label the worker has not decided again yet.
    """

    images: int
    labelled: int
    without_label: Mapping[str, int]
    to_decide: int


@dataclass(frozen=True)
class WaitingStatus:
    """What waits for a person.

    `second_opinion` and `disagreement` count images. `missing_annotators` says that one person annotates where several
    are needed. `outside` are labels that name what the taxonomy does not have; those on nodes that are gone hold back
    the training, and `training_held` says so. `candidate` is a version that a person has to promote, and
    `candidate_reason` the outcome of its comparison. `config_refused` says why the labelling config cannot be used,
    `no_taxonomy` that there is none yet; until then no label is decided.
    """

    second_opinion: int
    disagreement: int
    missing_annotators: str | None
    outside: LabelsOutside
    training_held: str | None
    candidate: str | None
    config_refused: str | None
    no_taxonomy: str | None = None
    candidate_reason: str | None = None


@dataclass(frozen=True)
class ModelStatus:
    """The served model. `macro_f1` is by control, on `test_images` of `test_products` that no version has learned from.

    `caveats` say what the figures do not say, such as "products unknown" or "never tested". `promise` says by control
    what is suggested and how often it is right, or that there are not enough labels yet. `answers` count what
    accepted labels say about its suggestions, `broken` says by control what it still suggests where its promise is
    broken.
    """

    version: str
    name: str
    created_at: str | None
    macro_f1: Mapping[str, float]
    test_images: int | None
    test_products: int | None
    caveats: tuple[str, ...]
    answers: tuple[AnswerCount, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    promise: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobStatus:
    """A job: `at` is when it ended, or began, or was asked for."""

    kind: str
    state: str
    at: datetime
    outcome: str


@dataclass(frozen=True)
class SetAsideStatus:
    """What could not be processed and waits: an event, an image, a step of the worker, or a kind of job."""

    project: str
    kind: str
    key: str
    reason: str
    since: datetime
    tries: int
    version: str


@dataclass(frozen=True)
class ProjectStatus:
    """One project. `problems` say what could not be read, so that it is missing here.

    `damaged` says that the project's record cannot be read, and what to do; until then no work is done for the project.
    `lost` says what a person must give again, after such a record was made anew.
    """

    project: str
    sources: tuple[SourceStatus, ...] = ()
    images: ImagesStatus | None = None
    waiting: WaitingStatus | None = None
    model: ModelStatus | None = None
    changed_labels: int = 0
    unfilled_tasks: int = 0
    jobs: tuple[JobStatus, ...] = ()
    last_sync: JobStatus | None = None
    last_error: JobStatus | None = None
    problems: tuple[str, ...] = ()
    damaged: str | None = None
    lost: str | None = None
    set_aside: tuple[SetAsideStatus, ...] = ()


@dataclass(frozen=True)
class HomeStatus:
    """A home folder, its worker and its projects. `worker_beat_s` is the age of the worker's last heartbeat.

    `set_aside` is what is set aside of no project, or of one that is not known.
    """

    home: str
    worker_runs: bool
    worker_beat_s: float | None
    events_to_fold: int
    projects: tuple[ProjectStatus, ...]
    problems: tuple[str, ...] = ()
    set_aside: tuple[SetAsideStatus, ...] = ()
