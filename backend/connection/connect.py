"""Connecting a Label Studio project: ML backend, webhook with its secret, look-alike panel, pre-filling.

Connecting again repairs what is wrong and changes nothing else. It neither makes anything twice nor deletes anything;
`disconnect` removes the registration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from taxonomist.backend.connection.announce import (
    announce_version,
    announcement_lock,
    show_version,
    update_ml_backend,
)
from taxonomist.backend.connection.look_alike_panel import panels_in, with_panel
from taxonomist.backend.connection.panel_renewal import panel_key, written
from taxonomist.backend.connection.questions import Choose, ask_settings
from taxonomist.backend.label_studio import LabelStudioClient, MlBackend, Project, Webhook
from taxonomist.backend.labelling.sources import describe_other
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import Services
from taxonomist.backend.services.framing import framing_sites
from taxonomist.backend.services.one_address import page_base
from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import SECRET_HEADER, Credentials
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_records import ProjectRecord, ProjectRecords, of_annotations, with_address
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import parse_label_config

PanelState = Literal["added", "updated", "unchanged", "declined"]
Say = Callable[[str], None]
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Connected:
    """The result of `connect`. `label_studio` is its release, `title` the model version that annotators see."""

    project: str
    project_title: str
    label_studio: str
    ml_backend: int
    title: str
    webhook: int
    panel: PanelState
    prefill: bool
    product_field: str | None = None
    annotators: int | None = None


def connect_project(
    services: Services,
    project: str,
    *,
    url: str | None,
    api_key: str | None,
    ask: Ask,
    say: Say,
    product_field: str | None = None,
    annotators: int | None = None,
    choose: Choose | None = None,
    may_replace: Ask | None = None,
    asked: bool = True,
) -> Connected:
    """`connect` with what the services know; address and token default to the stored ones, then to the settings.

    `product_field` and `annotators` are kept for the project; `choose` asks for them where they are set nowhere.
    `asked` says that a person answers it, not `--yes`.

    Raises `ConfigError` when they are not known, `LabelStudioError` when Label Studio refuses.
    """
    known_url, known_key = services.label_studio(project)
    fallback = services.other_token(project) if api_key is None and url in {None, known_url} else None
    url, api_key = url or known_url, api_key or known_key
    if url is None or api_key is None:
        missing = "address" if url is None else "token"
        option = "--url http://localhost:8080" if url is None else "--api-key …"
        variable = "TAXONOMIST_LABEL_STUDIO_URL" if url is None else "TAXONOMIST_LABEL_STUDIO_API_KEY"
        raise ConfigError(f"The {missing} of Label Studio is not known.", hint=f"Give {option}, or set {variable}.")
    predictor = Predictor(services)
    version = predictor.model_version(project)
    connected = connect(
        services.settings,
        services.credentials,
        services.projects,
        url=url,
        api_key=api_key,
        fallback=fallback,
        project=project,
        model_version=version,
        ask=ask,
        say=say,
        may_replace=may_replace,
    )
    if connected.panel != "declined":
        say(f"The look-alike panel: {framing_sites(services, project).description}.")
    services.projects.announce(project, version)
    if predictor.model_version(project) != version:  # a training has ended meanwhile
        announce_version(services, project)
    ask_settings(
        services, project, product_field=product_field, annotators=annotators, choose=choose, say=say, asked=asked
    )
    services.jobs.enqueue(JobKind.SYNC, project, "the project was connected")
    in_force = services.project_settings(project)
    return replace(connected, product_field=in_force.product_field, annotators=in_force.annotators)


def connect(
    settings: Settings,
    credentials: Credentials,
    records: ProjectRecords,
    *,
    url: str,
    api_key: str,
    fallback: str | None = None,
    project: str,
    model_version: str,
    ask: Ask,
    say: Say,
    may_replace: Ask | None = None,
) -> Connected:
    """Register this backend in a project of Label Studio, and store how to reach it.

    The server must be running: Label Studio calls it during the registration. `fallback` is used, and stored, where
    Label Studio refuses the token `api_key`. `model_version` is what its /setup
    answers for the project. `ask` decides whether the labelling config is changed, `say` gets a line for each step.
    `may_replace` (by default `ask`) decides whether the project takes the place of another one that was connected under
    this number. Raises `LabelStudioError` with the fix, and `ConfigError` for a labelling config without a taxonomy,
    when Label Studio cannot call the server's address, or when the project must not replace the other one.
    """
    check_callable(settings)
    with LabelStudioClient(url, api_key, fallback=fallback) as client:
        release = client.version()
        say(f"Label Studio {release} at {client.url}, as {client.user()}.")
        about = client.project(project)
        config = parse_label_config(about.label_config)
        _replace(records, about, may_replace or ask, say)
        trees = ", ".join(f"{tree.control} ({len(tree)} nodes)" for tree in config.trees)
        say(f"Project {project}, {about.title!r}: {trees}")
        for note in config.notes:
            say(f"Note: {note}")

        with announcement_lock(settings.home, project):
            row = _register(client, settings, credentials, records.get(project), project, model_version, say)
            webhook = _secure_webhook(client, settings, credentials, project, say)
            show_version(client, project, row.title)
        say(f"Tasks are pre-filled; their predictions are named {row.title!r}.")
        base = page_base(settings.page_url, records.get(project), client.url)  # Label Studio has called /setup
        if base.startswith("/"):
            say(f"Label Studio and the look-alike panel have one address; ours is {settings.page_url}.")
        label_config, panel = _add_panel(client, base, credentials, project, ask, say)

        records.change(
            project,
            lambda known: {  # as it is now, since Label Studio has called /setup meanwhile
                **(written(known, label_config) if panel != "declined" else {}),
                "label_config": label_config,
                "created": about.created,
                "title": about.title,
                "label_studio_url": client.url,
                "label_studio_addresses": with_address(
                    known.label_studio_addresses, known.label_studio_url, client.url
                ),
                "api_key": SecretStr(client.token),
                "ml_backend": row.id,
                "has_password": True,
                "lost": of_annotations(known.lost),
            },
        )
    return Connected(project, about.title, release, row.id, row.title, webhook.id, panel, prefill=True)


def _replace(records: ProjectRecords, about: Project, may_replace: Ask, say: Say) -> None:
    """Let the project take the place of another one with its number, if there is one and `may_replace` agrees."""
    created = records.get(about.id).created
    if created is None or created == about.created:
        return
    say(describe_other(about, created))
    say("The labels of that project stay here and its model is served, unless you begin with a new TAXONOMIST_HOME.")
    if not may_replace(f"Connect {about.title!r} in the place of that project?"):
        raise ConfigError(
            f"Project {about.id} was not connected: it would take the place of another one.",
            hint="Use a new TAXONOMIST_HOME for it, or give --replace.",
        )
    # Before the registration: Label Studio then calls /setup, which refuses a project that is not the known one.
    records.update(
        about.id,
        created=about.created,
        ml_backend=None,
        announced=None,
        announced_before=None,
        label_studio_url=None,
        label_studio_addresses=(),
        label_studio_outer=None,
        api_key=None,
    )


def check_callable(settings: Settings) -> None:
    """Raise `ConfigError` when the server's address is a wildcard (0.0.0.0 or ::), which no other machine can call."""
    host = urlsplit(settings.url).hostname
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        raise ConfigError(
            f"Label Studio and browsers cannot call {settings.url}.",
            hint="Set TAXONOMIST_PUBLIC_URL to the address by which they reach this server.",
        )


def webhook_address(settings: Settings) -> str:
    """Return the address to which Label Studio sends its events."""
    return f"{settings.url}/webhook"


def own_row(rows: Sequence[MlBackend], settings: Settings, record: ProjectRecord) -> MlBackend | None:
    """Return our row among a project's ML backends: the one with our address, else the one registered at a former
    address."""
    same = next((row for row in rows if row.url.rstrip("/") == settings.url), None)
    return same or next((row for row in rows if row.id == record.ml_backend), None)


def own_webhooks(hooks: Sequence[Webhook], settings: Settings, credentials: Credentials) -> list[Webhook]:
    """Return our webhooks among a project's: those with our address or our secret. Active ones come first."""
    address, secret = webhook_address(settings), credentials.webhook_secret
    ours = [hook for hook in hooks if hook.url == address or hook.headers.get(SECRET_HEADER) == secret]
    return sorted(ours, key=lambda hook: (not hook.is_active, hook.url != address, hook.id))


def webhook_is_right(hook: Webhook, settings: Settings, credentials: Credentials) -> bool:
    """Return whether a webhook sends us every event, with payload and secret."""
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
        # Always, since the password that Label Studio has cannot be read and compared.
        row = update_ml_backend(client, row, settings, credentials, title)
        say(f"Updated ML backend {row.id} ({settings.url}).")
    if rows and rows[0].id != row.id:
        say(
            f"Warning: Label Studio asks only a project's first ML backend, and that is {rows[0].url}. "
            "Remove it under Settings > Model."
        )
    return row


def _secure_webhook(
    client: LabelStudioClient, settings: Settings, credentials: Credentials, project: str, say: Say
) -> Webhook:
    """Return our webhook after exactly one of ours is active, with the secret.

    Label Studio makes one without headers when the backend is registered. For an address that it finds invalid (a host
    without a dot) it makes none and does not say so; making it here then fails with the reason.
    """
    address, headers = webhook_address(settings), {SECRET_HEADER: credentials.webhook_secret}
    ours = own_webhooks(client.webhooks(project), settings, credentials)
    if not ours:
        say(f"Made the webhook to {address}.")
        return client.create_webhook(project, address, headers)
    first, *others = ours
    if not webhook_is_right(first, settings, credentials):
        say(f"Put the secret into webhook {first.id}.")
    # Also a right one is updated: only then does Label Studio report that its SSRF settings forbid the address.
    # Otherwise it would keep the webhook and send nothing.
    first = client.update_webhook(
        first, url=address, headers={**first.headers, **headers}, is_active=True, everything=True
    )
    for hook in others:
        if hook.is_active:
            client.update_webhook(hook, url=hook.url, is_active=False)
            say(f"Turned off webhook {hook.id}, which sent the same events a second time.")
    return first


def _add_panel(
    client: LabelStudioClient, base: str, credentials: Credentials, project: str, ask: Ask, say: Say
) -> tuple[str, PanelState]:
    """Return the labelling config that is in force afterwards, and what was done with the panel."""
    label_config = client.project(project).label_config  # read as late as possible: a person may be editing it
    wanted = with_panel(label_config, base, project, panel_key(credentials, project, label_config))
    if wanted == label_config:
        return label_config, "unchanged"
    has_panel = bool(panels_in(label_config))
    client.validate_config(project, wanted)
    question = (
        "Update the look-alike panel in the labelling config?"
        if has_panel
        else "Add a panel with labelled look-alikes beside the image to the labelling config?"
    )
    if not ask(question):
        return label_config, "declined"
    client.update_project(project, label_config=wanted)
    say("The look-alike panel is up to date." if has_panel else "Added the look-alike panel.")
    return wanted, "updated" if has_panel else "added"
