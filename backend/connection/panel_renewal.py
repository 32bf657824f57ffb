"""The key of the look-alike panel ends; the worker puts a new one into the labelling config a week before.

It also makes the panel's address relative once Label Studio and our pages have one address.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from html import escape
from urllib.parse import parse_qs, urlsplit

from taxonomist.backend.connection.look_alike_panel import keys_in, panels_in
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.backend.state.credentials import RENEWED_DAYS, Credentials, key_end, today
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.taxonomy.errors import ConfigError


def panel_key(credentials: Credentials, project: str, label_config: str) -> str:
    """Return the key for a project's panels: the one that they have while it need not be renewed, else a new one.

    Raises `ConfigError` for a labelling config that cannot be read.
    """
    kept = [key for key in keys_in(label_config) if credentials.is_renewed(project, key)]
    return max(kept, key=lambda key: key_end(key) or date.min) if kept else credentials.project_key(project)


def written(record: ProjectRecord, label_config: str) -> Mapping[str, object]:
    """Return the fields of a record that change when panels with new keys are in the labelling config.

    From then on, keys of earlier releases end with a week.
    """
    until = record.former_keys_until or today() + timedelta(days=RENEWED_DAYS)
    return {"label_config": label_config, "former_keys_until": until}


def must_renew(services: Services, record: ProjectRecord) -> bool:
    """Return whether the panels of a connected project, as its record knows them, need a new key or address."""
    if record.ml_backend is None:
        return False
    try:
        return bool(_absolute(services, record, record.label_config)) or any(
            not services.credentials.is_renewed(record.project, key) for key in _own_keys(services, record)
        )
    except ConfigError:  # no taxonomy, or no XML: `connect` and the doctor say so
        return False


def renew_panel(services: Services, project: str) -> str:
    """Put a new key into the panels of a connected project that has some, where it is time, and the path in place of
    the address where that is one with Label Studio's. Return the outcome.

    Raises `TaxonomistError` where Label Studio refuses it; the former key is valid up to its end.
    """
    record, credentials = services.projects.get(project), services.credentials
    if not must_renew(services, record):
        return "no key of a look-alike panel ends soon"
    with services.open_label_studio(project) as client:
        label_config = client.project(project).label_config  # as late as possible: a person may be editing it
        ours = _own_keys(services, record, label_config)
        if not ours:
            return "Label Studio has no look-alike panel of this server any more"
        key, wanted = panel_key(credentials, project, label_config), label_config
        # Where the panels are, and an address that is not Label Studio's, is up to `connect` and people.
        for former in ours:
            wanted = wanted.replace(former, key)
        for address in _absolute(services, record, label_config):
            wanted = wanted.replace(f"{address}/similar?", f"{one_address(services, project)}/similar?")
        if wanted != label_config:
            client.validate_config(project, wanted)
            client.update_project(project, label_config=wanted)
    services.projects.change(project, lambda known: written(known, wanted))
    return f"the key of the look-alike panel is valid until {key_end(key)}"


def _own_keys(services: Services, record: ProjectRecord, label_config: str | None = None) -> list[str]:
    keys = keys_in(record.label_config if label_config is None else label_config)
    return [key for key in keys if services.credentials.made(record.project, key)]


def _absolute(services: Services, record: ProjectRecord, label_config: str) -> set[str]:
    """Return the addresses of our panels that should be the path of our pages alone, as the labelling config has them.

    They stand in HTML that stands in XML.
    """
    if one_address(services, record.project) is None:
        return set()
    found = set()
    for panel in panels_in(label_config):
        base, mark, query = panel.partition("/similar?")
        key = parse_qs(query).get("key", [""])[0]
        if mark and urlsplit(base).scheme and services.credentials.made(record.project, key):
            found.add(escape(escape(base)))
    return found
