"""What Label Studio can ask of the backend, whatever framework takes its requests: set up, answer, receive, train.

The web application and the adapter for label-studio-ml check the caller, parse the body, call one of these, and make a
response of the result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from taxonomist.backend.label_studio.predictions import model_version_name, prediction_json
from taxonomist.backend.label_studio.requests import PredictRequest, SetupRequest
from taxonomist.backend.label_studio.webhooks import ReceivedWebhook
from taxonomist.backend.labelling.recording import record_usable
from taxonomist.backend.labelling.sources import learn_source
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.prediction.predictor import Predictions, Predictor
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import LOOPBACK_HOSTS
from taxonomist.backend.state.jobs import Job, JobKind
from taxonomist.backend.state.project_records import ProjectRecord, with_address
from taxonomist.taxonomy.errors import BadRequestError, ConfigError, ConfigTooLargeError, StorageError
from taxonomist.taxonomy.label_config import parse_label_config
from taxonomist.taxonomy.numbers import is_number

log = logging.getLogger(__name__)

_OTHER = (
    "It comes from a project that was created at another time than the connected one: another Label Studio, or another "
    "database. If it is meant, run `taxonomist connect`, which asks."
)


@dataclass(frozen=True)
class Answer:
    """Predictions as Label Studio's JSON, one per task and in the order of the tasks."""

    predictions: list[dict[str, Any]]

    @property
    def suggested(self) -> int:
        """The number of predictions that suggest something."""
        return sum(1 for prediction in self.predictions if prediction["result"])

    @property
    def listed(self) -> int:
        """The number of predictions that fill nothing in and have a shortlist."""
        return sum(1 for prediction in self.predictions if "shortlists" in prediction and not prediction["result"])

    @property
    def empty(self) -> int:
        """The number of predictions that suggest nothing."""
        return len(self.predictions) - self.suggested - self.listed


@dataclass(frozen=True)
class RequestedTraining:
    """The job of a training that Label Studio asked for. `held` says why it will wait for a person, None if not.

    A pass over Label Studio comes before the training, so that the reason may be gone, or new, when it begins.
    """

    job: Job
    held: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the answer to the request."""
        return {"status": "ok", "job": self.job.id} | ({"held": self.held} if self.held else {})


@dataclass(frozen=True)
class Recorded:
    """A webhook of which `new` events were recorded now, and `known` ones before."""

    webhook: ReceivedWebhook
    has_new_config: bool
    new: int = 0
    known: int = 0

    @property
    def has_more(self) -> bool:
        """Whether there is more to do than to record, which may take longer."""
        return self.has_new_config or self.webhook.wants_training


@dataclass(frozen=True)
class Receipt:
    """What became of a webhook: how many of its events are new and how many were recorded before.

    `ignored` is the reason why a part of it is not recorded, `training` the training that it asked for.
    """

    new: int
    known: int
    ignored: str | None
    training: RequestedTraining | None


class UseCases:
    """The use cases of one process; its threads share them. Nothing is opened before it is used."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.predictor = Predictor(services)

    def set_up(self, request: SetupRequest, *, authenticated: bool, local: bool) -> str:
        """Store what /setup says about the project; return the model version that predicts for it.

        `authenticated` says that the caller sent the password, `local` that it is a program on this machine. Address
        and token of Label Studio are stored only when none are known and the caller may set them. Another address by
        which it calls itself is one that tasks may have: it is read at the known one. What `connect` stored is changed
        by authenticated callers only. Raises `ConfigError` for a labelling config without a taxonomy, and for the
        project of another Label Studio, since a person reads the answer to /setup.
        """
        parse_label_config(request.label_config)
        projects, settings = self.services.projects, self.services.settings
        learn_source(self.services, request.project, request.created)
        record = projects.get(request.project)
        if request.created is not None and record.created != request.created:
            raise ConfigError(
                f"Project {request.project} was created at another time than the project that is connected under this "
                "number: it belongs to another Label Studio, or another database.",
                hint=f"If it is meant, run `taxonomist connect --project {request.project}`, which asks.",
            )

        def changes(record: ProjectRecord) -> Mapping[str, object]:
            changed: dict[str, object] = {"label_config": request.label_config}
            if request.hostname and (authenticated or (local and record.ml_backend is None)):
                changed["label_studio_outer"] = request.hostname
            known = record.label_studio_url or settings.label_studio_url
            if known is None:
                may_set = authenticated or (local and urlsplit(request.hostname or "").hostname in LOOPBACK_HOSTS)
                if request.hostname and request.access_token and may_set:
                    changed |= {"label_studio_url": request.hostname, "api_key": request.access_token}
            elif request.hostname and (authenticated or (local and record.ml_backend is None)):
                addresses = with_address(record.label_studio_addresses, request.hostname, known)
                changed["label_studio_addresses"] = addresses
            return changed

        projects.change(request.project, changes)
        return self.model_version(request.project)

    def answer(self, request: PredictRequest) -> Answer:
        """Return a prediction for each task; an empty one where nothing can be suggested.

        Tasks that were not predicted before the deadline, or whose image could not be read, are left to the worker. A
        labelling config without a taxonomy gives empty predictions: an error would stop the annotator. Raises
        `ConfigTooLargeError` for one that exceeds the limits.
        """
        try:
            predictions = self.predictor.predict_named(request)
        except ConfigTooLargeError:
            raise
        except ConfigError as error:
            log.warning("project %s: %s", request.project, error)
            version = self.model_version(request.project)
            predictions = Predictions([prediction_json(version, ()) for _ in request.tasks], [], [])
        try:
            self.services.unfilled.add(request.project, predictions.unanswered, asked=True)
            self.services.suggestions.add(request.project, predictions.suggested)
        except StorageError as error:  # an answer is possible even when the disk is full
            log.error(
                "project %s: %d tasks will not be filled later, and %d suggestions are not recorded: %s",
                request.project,
                len(predictions.unanswered),
                len(predictions.suggested),
                error,
            )
        return Answer(predictions.answers)

    def receive(self, webhook: ReceivedWebhook) -> Receipt:
        """Record a webhook, and do what else it asks for. Raises `StorageError`."""
        (recorded,) = self.record([webhook])
        if isinstance(recorded, Exception):
            raise recorded
        return self.follow(recorded)

    def record(self, webhooks: Sequence[ReceivedWebhook]) -> list[Recorded | Exception]:
        """Record webhooks together; their events are on the disk when this returns.

        Return for each what was recorded, or the error that it met. `follow` does the rest.
        """
        results: list[Recorded | Exception] = []
        records: dict[str, ProjectRecord] = {}
        for webhook in webhooks:
            try:
                results.append(self._known(webhook, records))
            except Exception as error:  # the error of one webhook costs no other
                results.append(error)
        usable = [result for result in results if isinstance(result, Recorded)]
        counts = iter(self.services.journal.record_each([recorded.webhook.events for recorded in usable]))
        return [result if isinstance(result, Exception) else self._counted(result, next(counts)) for result in results]

    def _known(self, webhook: ReceivedWebhook, records: dict[str, ProjectRecord]) -> Recorded:
        """Return the webhook with the events that are to be recorded, each with the source of its project.

        One of another Label Studio is not recorded; `connect` asks whether that one is meant, and then reads all of it.
        `records` are those of the projects of webhooks that came with this one.
        """
        record = records.get(webhook.project)
        if record is None or record.created is None:  # this one may say when the project was created
            record = records[webhook.project] = learn_source(self.services, webhook.project, webhook.created)
        source = record.source
        if webhook.created is not None and source != f"{webhook.project}.{webhook.created}":
            webhook = replace(webhook, events=(), label_config=None, wants_training=False, ignored=_OTHER)
        if webhook.ignored:
            log.warning(
                "project %s: a part of %s is not recorded: %s", webhook.project, webhook.action, webhook.ignored
            )
        # One without the project's time of creation is from the Label Studio that we know.
        if any(event.source != source for event in webhook.events):
            webhook = replace(webhook, events=tuple(replace(event, source=source) for event in webhook.events))
        has_new_config = webhook.label_config is not None and webhook.label_config != record.label_config
        return Recorded(webhook, has_new_config)

    def _counted(self, recorded: Recorded, new: int | Exception) -> Recorded | Exception:
        """Return what was recorded. Where an event is refused, the webhook's others are recorded without it."""
        webhook = recorded.webhook
        if isinstance(new, int):
            return replace(recorded, new=new, known=len(webhook.events) - new)
        if not isinstance(new, BadRequestError):
            return new
        refused: list[str] = []
        try:
            usable, new = record_usable(
                self.services.journal, webhook.events, lambda event, error: refused.append(str(error))
            )
        except Exception as error:
            return error
        log.warning("project %s: a part of %s is not recorded: %s", webhook.project, webhook.action, refused[0])
        webhook = replace(webhook, ignored=" ".join([*([webhook.ignored] if webhook.ignored else []), *refused]))
        return replace(recorded, webhook=webhook, new=new, known=len(usable) - new)

    def follow(self, recorded: Recorded) -> Receipt:
        """Do what a recorded webhook asks for: keep the project's new labelling config, enqueue a training."""
        webhook = recorded.webhook
        if recorded.has_new_config:
            self.services.projects.update(webhook.project, label_config=webhook.label_config)
        training = self.start_training(webhook.project) if webhook.wants_training else None
        return Receipt(recorded.new, recorded.known, webhook.ignored, training)

    def known_config(self, project: str) -> str | None:
        """Return the labelling config that is known of a project, for webhooks that come without one."""
        return self.services.projects.get(project).label_config or None

    def start_training(self, project: str) -> RequestedTraining:
        """Enqueue the training that *Start training* asks for.

        The request brings no annotations, so a job that fetches them comes before.
        """
        jobs, reason = self.services.jobs, "Start training was pressed"
        if is_number(project) and all(self.services.label_studio(project)):
            jobs.enqueue(JobKind.SYNC, project, reason)
        held = training_hold(self.services, project)
        if held:
            log.warning("%s", held)
        return RequestedTraining(jobs.enqueue(JobKind.TRAIN, project, reason), str(held) if held else None)

    def model_version(self, project: str) -> str:
        """Return the model version that predicts for a project now. No model is loaded."""
        return self.predictor.model_version(project)

    def model_versions(self, project: str | None) -> list[str]:
        """Return the names of all published versions of a project, of every known project for None."""
        projects = [project] if project else [record.project for record in self.services.projects]
        names = {
            model_version_name(model.version): None
            for name in projects
            for model in self.services.registry.versions(registry_name(name))
        }
        return list(names)
