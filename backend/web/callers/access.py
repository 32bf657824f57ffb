"""What a caller may do: everything with the password; without it, a program on this machine may begin.

Where no password is set, one is made, and `connect` gives it to Label Studio. People also add the backend to Label
Studio by hand, without a password. So programs on this machine may call for projects that were not connected since, for
a limited number of them. Projects that were imported from files do not count: the owner of the home made them, and many
of them must not keep a Label Studio out.
"""

from __future__ import annotations

from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.backend.web.callers.caller import Caller
from taxonomist.storage.journal import is_label_studio
from taxonomist.taxonomy.errors import AuthError

MOST_OPEN_PROJECTS = 100


class Access:
    """Checks of callers. Before its body is read, only `check` and `check_reader` can be asked about a request."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def is_authenticated(self, caller: Caller, *, webhook: bool = False) -> bool:
        """Return whether a caller sent the password, or for a webhook the secret."""
        credentials = self._services.credentials
        return credentials.has_password(caller.authorization) or (webhook and credentials.has_secret(caller.secret))

    def check(self, caller: Caller, *, webhook: bool = False) -> None:
        """Raise `AuthError` for a caller that may call for no project."""
        if not self._is_open(caller.is_local_program) and not self.is_authenticated(caller, webhook=webhook):
            raise self._services.credentials.refusal(webhook=webhook)

    def check_reader(self, caller: Caller) -> None:
        """Raise `AuthError` for a caller that may not read about all projects; people read it in a browser, too."""
        if not self.may_read(caller):
            raise self._services.credentials.refusal(webhook=False)

    def may_read(self, caller: Caller) -> bool:
        """Return whether a caller may read about all projects: with the password, or where none is needed."""
        return self._is_open(caller.is_direct) or self.is_authenticated(caller)

    def check_project(self, caller: Caller, project: str, *, webhook: bool = False) -> None:
        """Raise `AuthError` for a caller that passed `check` and may not call for this project."""
        projects, settings = self._services.projects, self._services.settings
        if settings.allow_no_password or self.is_authenticated(caller, webhook=webhook):
            return
        record = projects.find(project)
        is_new = record is None
        # A wrong password for a new project: `connect` must learn it now, since then only the right one counts.
        if (record is not None and record.has_password) or (is_new and caller.authorization is not None):
            raise self._services.credentials.refusal(webhook=webhook)
        if is_new and sum(map(_is_open_project, projects)) >= MOST_OPEN_PROJECTS:
            raise AuthError(
                f"{MOST_OPEN_PROJECTS} projects of this server have no password, and another one needs it.",
                hint=f"Run `taxonomist connect --project {project}`, which gives Label Studio the password.",
            )

    def _is_open(self, is_near: bool) -> bool:
        settings = self._services.settings
        return settings.password is None and (is_near or settings.allow_no_password)


def _is_open_project(record: ProjectRecord) -> bool:
    is_imported = any(not is_label_studio(source) for source in record.imports)
    return not record.has_password and not is_imported
