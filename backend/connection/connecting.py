"""`connect` and what follows every promotion, with what the services know filled in."""

from __future__ import annotations

from collections.abc import Callable

from taxonomist.backend.connection.connect import Connected, connect, set_model_version
from taxonomist.backend.labelling.sync import open_label_studio
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.taxonomy.errors import ConfigError


def connect_project(
    services: Services,
    project: str,
    *,
    url: str | None,
    api_key: str | None,
    ask: Callable[[str], bool],
    say: Callable[[str], None],
) -> Connected:
    """`connect`, with address and token from the settings or from the last time where they are not given.

    Raises `ConfigError` when they are not known, `LabelStudioError` when Label Studio refuses.
    """
    known_url, known_key = services.label_studio(project)
    url, api_key = url or known_url, api_key or known_key
    if url is None or api_key is None:
        missing = "address" if url is None else "token"
        option = "--url http://localhost:8080" if url is None else "--api-key …"
        raise ConfigError(f"The {missing} of Label Studio is not known.", hint=f"Give {option}.")
    version = Predictor(services).model_version(project)
    connected = connect(
        services.settings,
        services.credentials,
        services.projects,
        url=url,
        api_key=api_key,
        project=project,
        model_version=version,
        ask=ask,
        say=say,
    )
    services.projects.update(project, announced=version)
    if Predictor(services).model_version(project) != version:  # a training has ended meanwhile
        announce_version(services, project)
    services.jobs.enqueue(JobKind.SYNC, project, "the project was connected")
    return connected


def announce_version(services: Services, project: str) -> None:
    """Have Label Studio show the predictions of the version that is served now. Raises `LabelStudioError`."""
    version = Predictor(services).model_version(project)
    with open_label_studio(services, project) as client:
        set_model_version(client, services.projects.get(project), version, services.settings, services.credentials)
    services.projects.update(project, announced=version)
