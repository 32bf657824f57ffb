"""Announcing: Label Studio shows the predictions of the version that is served."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from taxonomist.backend.label_studio import LabelStudioClient, MlBackend
from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import Credentials
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.errors import LabelStudioError


def announce_version(services: Services, project: str) -> None:
    """Let Label Studio show the predictions of the version that is served now. Raises `LabelStudioError`."""
    version = Predictor(services).model_version(project)
    with services.open_label_studio(project) as client:
        check_source(services, client.project(project), client.url)
        with announcement_lock(services.home, project):
            set_model_version(client, services.projects.get(project), version, services.settings, services.credentials)
    services.projects.announce(project, version)


def announcement_lock(home: Path, project: str) -> FileLock:
    """Return the lock that guards the change of the version in Label Studio.

    Label Studio stores the version's name in two places, and each needs a request of its own. Without the lock, a
    request is refused when two processes, such as `connect` and the worker, announce different versions at once.
    """
    return FileLock(home / f"announcement-{project}.lock")


def announce_again(services: Services, project: str) -> None:
    """Enqueue the announcement of the served version, and its predictions, where Label Studio does not know it.

    Call it when Label Studio has answered: it may have been away when the version was promoted.
    """
    record = services.projects.get(project)
    version = Predictor(services).model_version(project)
    if record.ml_backend is not None and record.announced != version:
        services.jobs.enqueue(JobKind.PUSH, project, f"{version} is served now, and Label Studio does not know it")


def set_model_version(
    client: LabelStudioClient, record: ProjectRecord, version: str, settings: Settings, credentials: Credentials
) -> None:
    """Tell Label Studio that `version` predicts from now on; for every promotion and rollback.

    Label Studio keeps three strings, and all of them must be the `model_version` of our predictions:

    - `model_version` of the ML backend: Label Studio takes it from /setup by itself.
    - `title` of the ML backend: the label stream asks the backend only while it equals the project's `model_version`.
    - `model_version` of the project: the Data Manager's scores and Uncertainty sampling look at predictions of that
      version only. Changed alone, it makes the stream show stored predictions of that version and ask no backend;
      empty, it makes the stream show none.

    Changing the title moves the project's `model_version` along if, and only if, the two were equal. So the title
    goes first, and the project follows where it has not been moved: Label Studio would refuse a `model_version` that
    is neither a title nor stored with a prediction. (Seen with Label Studio 1.23.2.)

    The server must be running and serve `version` already: Label Studio calls /health and /setup meanwhile.
    Does nothing for a project that was never connected. Raises `LabelStudioError`.
    """
    if record.ml_backend is None:
        return
    rows = {row.id: row for row in client.ml_backends(record.project)}
    if record.ml_backend not in rows:
        raise LabelStudioError(
            f"The ML backend {record.ml_backend} of project {record.project} is gone from Label Studio.",
            hint=f"Run `taxonomist connect --project {record.project}`.",
        )
    row = rows[record.ml_backend]
    if row.title != version:
        update_ml_backend(client, row, settings, credentials, version)
    show_version(client, record.project, version)


def update_ml_backend(
    client: LabelStudioClient, row: MlBackend, settings: Settings, credentials: Credentials, title: str
) -> MlBackend:
    """Give an ML backend in Label Studio our address, user name and password, and that title; return it."""
    return client.update_ml_backend(
        row, url=settings.url, title=title, username=credentials.username, password=credentials.password
    )


def show_version(client: LabelStudioClient, project: str, version: str) -> None:
    """Turn pre-filling on, with the predictions of that version.

    Turning it off in Label Studio empties the project's `model_version`, and turning it on does not fill it.
    """
    current = client.project(project)
    if not current.show_collab_predictions or current.model_version != version:
        client.update_project(project, show_collab_predictions=True, model_version=version)
