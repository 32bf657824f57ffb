"""Who looks at the console: who has the password, or, with one address, a person whom Label Studio knows.

The login is a signed cookie, which the server does not keep. A session begins with the server's password and ends after
`LIFE_S`, or when the password changes. Others have a cookie of the same form, which only ties forms to the browser that
asked for them. Changes that are hard to undo ask for the password again, unless it was given less than `CONFIRMED_S`
ago.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from dataclasses import dataclass, replace

from taxonomist.backend.services import Services
from taxonomist.backend.web.callers.access import Access
from taxonomist.backend.web.callers.caller import Caller
from taxonomist.backend.web.people import People, Person, Role
from taxonomist.taxonomy.errors import LabelStudioError

log = logging.getLogger(__name__)
COOKIE = "taxonomist_console"
LIFE_S = 12 * 3600
CONFIRMED_S = 30 * 60
_COOKIE = re.compile(r"(login|visit)\.([0-9]{1,12})\.([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Session:
    """A browser's session. `confirmed` is when the password was given last, 0 for never; times are seconds since 1970.

    `login`: it began with the password. Otherwise it allows nothing by itself.
    """

    login: bool
    began: int
    confirmed: int
    nonce: str


@dataclass(frozen=True)
class Visitor:
    """Who looks at the console. `name` is what the audit log has, `is_open` that no password is asked for.

    `can_confirm` is False where changes ask for a password that the server does not have. `person` is the one that
    Label Studio knows, None for a visitor with the server's password.
    """

    session: Session
    name: str
    is_open: bool
    is_confirmed: bool
    can_confirm: bool
    token: str
    person: Person | None = None

    def role(self, project: str) -> Role | None:
        """Return what the visitor may do in a project, None for one that they may not see.

        Who has the password leads all projects.
        """
        return "lead" if self.person is None else self.person.roles.get(project)


class Sessions:
    """The sessions of one server."""

    def __init__(self, services: Services, access: Access, people: People) -> None:
        self._services = services
        self._access = access
        self._people = people

    @property
    def has_password(self) -> bool:
        """Whether people can know the password of the server: one that was made for Label Studio is shown nowhere."""
        return self._services.settings.password is not None

    def visitor(self, caller: Caller, cookie: str | None, cookies: str | None) -> Visitor | None:
        """Return who sends a request with this cookie of ours, None for a visitor who must log in.

        `cookies` is the header with all cookies.
        """
        session = self._read(cookie or "")
        if session is not None and session.login:
            return self._visitor(session, "console", is_open=False)
        if not self._access.may_read(caller):
            person = self._person(cookies)
            if person is None:
                return None
            return replace(self._visitor(session or self.new(login=False), person.email, is_open=False), person=person)
        is_open = not self._access.is_authenticated(caller)
        return self._visitor(session or self.new(login=False), "console, without a password", is_open=is_open)

    def annotator(self, visitor: Visitor, cookies: str | None, project: str) -> Person | None:
        """Return the person in whose name a visitor may label, None where Label Studio does not say who they are.

        Who has the server's password may be logged in to Label Studio besides.
        """
        person = visitor.person or self._person(cookies)
        return person if person is not None and project in person.roles else None

    def new(self, *, login: bool) -> Session:
        """Return a session that begins now; a login has given the password."""
        now = int(time.time())
        return Session(login, now, now if login else 0, secrets.token_hex(16))

    def confirm(self, session: Session) -> Session:
        """Return the session as one whose password was given now."""
        return replace(session, confirmed=int(time.time()))

    def cookie(self, session: Session) -> str:
        """Return the value of the cookie."""
        text = _text(session)
        return f"{text}.{self._services.credentials.sign_for_console(text)}"

    def is_password(self, text: str) -> bool:
        """Return whether a text is the server's password."""
        return self._services.credentials.is_password(text)

    def _person(self, cookies: str | None) -> Person | None:
        try:
            return self._people.person(cookies)
        except LabelStudioError as error:
            log.warning("The console cannot ask Label Studio who a person is: %s", error)
            return None

    def _visitor(self, session: Session, name: str, *, is_open: bool) -> Visitor:
        is_confirmed = is_open or time.time() < session.confirmed + CONFIRMED_S
        token = self._services.credentials.sign_for_console(f"form.{session.nonce}")
        return Visitor(session, name, is_open, is_confirmed, is_confirmed or self.has_password, token)

    def _read(self, cookie: str) -> Session | None:
        """Return the session of a cookie that we made and that has not ended."""
        parts = _COOKIE.fullmatch(cookie)
        if parts is None:
            return None
        session = Session(parts[1] == "login", int(parts[2]), int(parts[3]), parts[4])
        if not hmac.compare_digest(self.cookie(session), cookie) or time.time() >= session.began + LIFE_S:
            return None
        return session


def _text(session: Session) -> str:
    kind = "login" if session.login else "visit"
    return f"{kind}.{session.began}.{session.confirmed}.{session.nonce}"
