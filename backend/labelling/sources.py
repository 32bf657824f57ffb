"""Where tasks and annotations come from: the Label Studio project that is connected, or another one at its address.

A Label Studio project is known by its number and its time of creation, whatever its address: an address may serve
another Label Studio tomorrow, for example one that started without its volume.
"""

from __future__ import annotations

from datetime import UTC, datetime

from taxonomist.backend.label_studio import Project
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.storage.journal import EARLIER_IMPORT
from taxonomist.storage.journal.events import is_label_studio
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError


def learn_source(services: Services, project: str, created: str | None) -> ProjectRecord:
    """Return the project's record, which has its source; `created` is kept where none is known yet.

    What was recorded without a source then gets it.
    """
    record = services.projects.get(project)
    if record.created is None and created is not None:
        record = services.projects.change(project, lambda known: {"created": known.created or created})
        services.journal.adopt(project, record.source)
    return record


def check_source(services: Services, about: Project, url: str) -> str:
    """Return the source of a project as Label Studio describes it.

    Raises `LabelStudioError` when it is not the project that was connected under this number.
    """
    record = services.projects.get(about.id)
    if record.created is not None and record.created != about.created:
        raise LabelStudioError(
            f"{describe_other(about, record.created)} Nothing was changed.",
            hint=f"Start the Label Studio at {url} with the data that it had. If the new project is meant, "
            f"run `taxonomist connect --project {about.id}`, which asks.",
        )
    source = learn_source(services, about.id, about.created).source
    services.journal.adopt(about.id, source)  # webhooks without a time of creation may have come before it was known
    return source


def describe_other(about: Project, created: str) -> str:
    """Return a sentence on a project that was not created when the connected one was."""
    return (
        f"Project {about.id} of this Label Studio, {about.title!r}, was created at "
        f"{about.created_at:%Y-%m-%d %H:%M:%S} UTC. The project that is connected under this number was created at "
        f"{_time(created)} UTC: this is another Label Studio, or another database."
    )


def _time(created: str) -> str:
    try:
        return f"{datetime.fromtimestamp(int(created), UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # no time
        return created


def file_source(name: str) -> str:
    """Return the source of an imported file. Raises `ConfigError` for a name that is not free or not Unicode.

    What had the name of a Label Studio project would count as that project's, and its next pass would delete it.
    """
    name = name.strip()
    hint = "Give --source NAME."
    if not name:
        raise ConfigError("The name of the source is empty.", hint=hint)
    if is_label_studio(name) or name == EARLIER_IMPORT:
        raise ConfigError(f'A source cannot be called "{name}": so are projects of Label Studio.', hint=hint)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"The name {name!r} is not Unicode.", hint=hint) from None
    return name
