"""Connecting a Label Studio project: ML backend, webhook with its secret, look-alike panel, pre-filling.

Everything here may be run again: what is right already stays as it is, what is wrong is put right, nothing is doubled
and nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from taxonomist.backend.connection.panel import panels_in, with_panel
from taxonomist.backend.label_studio import LabelStudioClient, MlBackend, Webhook
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER, Credentials
from taxonomist.backend.state.project_records import ProjectRecord, ProjectRecords
from taxonomist.taxonomy.errors import ConfigError, LabelStudioError
from taxonomist.taxonomy.label_config import parse_label_config

PanelState = Literal["added", "updated", "unchanged", "declined"]
Say = Callable[[str], None]
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Connected:
    """What stands after `connect`. `title` is the model version that annotators see."""

    project: str
    project_title: str
    label_studio: str  # its release
    ml_backend: int
    title: str
    webhook: int
    panel: PanelState
    prefill: bool


def connect(
    settings: Settings,
    credentials: Credentials,
    records: ProjectRecords,
    *,
    url: str,
    api_key: str,
    project: str,
    model_version: str,
    ask: Ask,
    say: Say,
) -> Connected:
    """Make a project use this backend, and remember how to reach it.

    The server must be running: Label Studio calls it while it is registered. `model_version` is what its /setup answers
    for the project; `ask` is asked before the labelling config is changed; `say` is told each step.
    Raises `LabelStudioError` (with the fix) and `ConfigError` for a labelling config without a taxonomy, or for an
    address of ours that nobody can call.
    """
    check_callable(settings)
    with LabelStudioClient(url, api_key) as client:
        release = client.version()
        say(f"Label Studio {release} at {client.url}, as {client.user()}.")
        found = client.project(project)
        trees = parse_label_config(found.label_config).trees
        say(
            f"Project {project}, {found.title!r}: " + ", ".join(f"{tree.control} ({len(tree)} nodes)" for tree in trees)
        )

        row = _register(client, settings, credentials, records.get(project), project, model_version, say)
        webhook = _secure_webhook(client, settings, credentials, project, say)
        _show_version(client, project, row.title)
        say(f"Tasks are pre-filled; their predictions are named {row.title!r}.")
        label_config, panel = _add_panel(client, settings, credentials, project, ask, say)

        records.update(
            project,
            label_config=label_config,
            created=found.created,
            label_studio_url=client.url,
            api_key=SecretStr(api_key),
            ml_backend=row.id,
        )
    return Connected(project, found.title, release, row.id, row.title, webhook.id, panel, prefill=True)


def set_model_version(
    client: LabelStudioClient, record: ProjectRecord, version: str, settings: Settings, credentials: Credentials
) -> None:
    """Tell Label Studio that `version` predicts from now on; for every promotion and rollback.

    Label Studio keeps three strings, and all of them must be the `model_version` of our predictions:

    - `model_version` of the ML backend: Label Studio takes it from /setup by itself.
    - `title` of the ML backend: the label stream asks the backend only while it equals the project's `model_version`.
    - `model_version` of the project: the Data Manager's scores and Uncertainty sampling look at predictions of that
      version only. Changed alone, it makes the stream show stored predictions of that version and ask nobody; empty,
      it makes the stream show none.

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
        _update(client, row, settings, credentials, version)
    _show_version(client, record.project, version)


def check_callable(settings: Settings) -> None:
    """Raise `ConfigError` when the server's address stands for every address of a machine, and so for none."""
    host = urlsplit(settings.url).hostname
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        raise ConfigError(
            f"Label Studio and browsers cannot call {settings.url}.",
            hint="Set TAXONOMIST_PUBLIC_URL to the address by which they reach this server.",
        )


def webhook_address(settings: Settings) -> str:
    """Where Label Studio's events go."""
    return f"{settings.url}/webhook"


def own_row(rows: Sequence[MlBackend], settings: Settings, record: ProjectRecord) -> MlBackend | None:
    """Our row among a project's ML backends: the one with our address, else the one registered before we moved."""
    same = next((row for row in rows if row.url.rstrip("/") == settings.url), None)
    return same or next((row for row in rows if row.id == record.ml_backend), None)


def own_webhooks(hooks: Sequence[Webhook], settings: Settings, credentials: Credentials) -> list[Webhook]:
    """Our webhooks among a project's: by address, or by the secret that only we give. Active ones first."""
    address, secret = webhook_address(settings), credentials.webhook_secret
    ours = [hook for hook in hooks if hook.url == address or hook.headers.get(SECRET_HEADER) == secret]
    return sorted(ours, key=lambda hook: (not hook.is_active, hook.url != address, hook.id))


def webhook_is_right(hook: Webhook, settings: Settings, credentials: Credentials) -> bool:
    """Whether a webhook sends us every event, with payload and secret."""
    return (
        hook.is_active
        and hook.for_all_actions
        and hook.with_payload
        and hook.url == webhook_address(settings)
        and hook.headers.get(SECRET_HEADER) == credentials.webhook_secret
    )


def _register(
    client: LabelStudioClient,
    settings: Settings,
    credentials: Credentials,
    record: ProjectRecord,
    project: str,
    title: str,
    say: Say,
) -> MlBackend:
    rows = client.ml_backends(project)
    row = own_row(rows, settings, record)
    if row is None:
        row = client.create_ml_backend(
            project, settings.url, title, username=credentials.username, password=credentials.password
        )
        say(f"Registered {settings.url} as ML backend {row.id}.")
    else:
        # Always, since the password in Label Studio cannot be read to compare it.
        row = _update(client, row, settings, credentials, title)
        say(f"Updated ML backend {row.id} ({settings.url}).")
    if rows and rows[0].id != row.id:
        say(
            f"Warning: Label Studio asks only a project's first ML backend, and that is {rows[0].url}. "
            "Remove it under Settings > Model."
        )
    return row


def _update(
    client: LabelStudioClient, row: MlBackend, settings: Settings, credentials: Credentials, title: str
) -> MlBackend:
    return client.update_ml_backend(
        row, url=settings.url, title=title, username=credentials.username, password=credentials.password
    )


def _show_version(client: LabelStudioClient, project: str, version: str) -> None:
    """Turn pre-filling on, with the predictions of that version.

    Whoever turned it off in Label Studio emptied the project's `model_version`, and turning it on does not fill it.
    """
    now = client.project(project)
    if not now.show_collab_predictions or now.model_version != version:
        client.update_project(project, show_collab_predictions=True, model_version=version)


def _secure_webhook(
    client: LabelStudioClient, settings: Settings, credentials: Credentials, project: str, say: Say
) -> Webhook:
    """Exactly one active webhook of ours, with the secret.

    Label Studio makes one when the backend is registered, without any header; silently none, if it finds the address
    invalid (a host without a dot), in which case making it here fails with the reason.
    """
    address, headers = webhook_address(settings), {SECRET_HEADER: credentials.webhook_secret}
    ours = own_webhooks(client.webhooks(project), settings, credentials)
    if not ours:
        say(f"Made the webhook to {address}.")
        return client.create_webhook(project, address, headers)
    first, *others = ours
    if not webhook_is_right(first, settings, credentials):
        say(f"Put the secret into webhook {first.id}.")
    # A right one too: only then does Label Studio say that its SSRF settings forbid the address. It would keep the
    # webhook and send nothing.
    first = client.update_webhook(
        first, url=address, headers={**first.headers, **headers}, is_active=True, everything=True
    )
    for hook in others:
        if hook.is_active:
            client.update_webhook(hook, url=hook.url, is_active=False)
            say(f"Turned off webhook {hook.id}, which sent the same events a second time.")
    return first


def _add_panel(
    client: LabelStudioClient, settings: Settings, credentials: Credentials, project: str, ask: Ask, say: Say
) -> tuple[str, PanelState]:
    """The labelling config that is in force afterwards, and what was done."""
    label_config = client.project(project).label_config  # read as late as possible: somebody may be editing it
    wanted = with_panel(label_config, settings.page_url, project, credentials.project_key(project))
    if wanted == label_config:
        return label_config, "unchanged"
    there = bool(panels_in(label_config))
    client.validate_config(project, wanted)
    question = (
        "Update the look-alike panel in the labelling config?"
        if there
        else "Add a panel with labelled look-alikes beside the image to the labelling config?"
    )
    if not ask(question):
        return label_config, "declined"
    client.update_project(project, label_config=wanted)
    say("The look-alike panel is up to date." if there else "Added the look-alike panel.")
    return wanted, "updated" if there else "added"
