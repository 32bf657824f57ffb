"""Who sends a request, as Label Studio knows them by its session cookie, where one address serves both.

The cookie goes to the configured address of Label Studio only, and only into two questions: who the person is, and
whether they may see a project. The answers are kept for a minute under a hash of it. The cookie is neither stored nor
logged, and no other cookie of the request is used.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from taxonomist.backend.label_studio.failures import refusal, unreachable
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.storage.network.http_clients import http_client
from taxonomist.taxonomy.errors import LabelStudioError
from taxonomist.taxonomy.numbers import is_number

Role = Literal["annotator", "lead"]
Answer = TypeVar("Answer", bound=BaseModel)

KEPT_S = 60.0
MOST_KEPT = 2000  # answers
TIMEOUT_S = 5.0
MAX_BYTES = 8 * 1024 * 1024  # of an answer: a labelling config may be long
_COOKIE = re.compile(r"(?:^|[;,])[ \t]*sessionid=([^;, \t]*)")
_SESSION = re.compile(r"[\w.:=+/-]{1,4096}", re.ASCII)


@dataclass(frozen=True)
class Person:
    """A person who is logged in to Label Studio. `roles` has a role in each project that they may see."""

    id: int
    email: str
    roles: Mapping[str, Role]


class _WhoAmI(BaseModel):
    id: int
    email: str = Field(max_length=500)


class _Creator(BaseModel):
    id: int | None = None


class _Project(BaseModel):
    id: int
    created_by: _Creator | None = None


class People:
    """The people of Label Studio. One object for all threads of the server."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._leads = {email.lower() for email in services.settings.leads}
        self._kept: OrderedDict[bytes, tuple[float, BaseModel | None]] = OrderedDict()
        self._lock = threading.Lock()

    def person(self, cookies: str | None, projects: Iterable[str] | None = None) -> Person | None:
        """Return who sends a request with the header `cookies`, None without a session of Label Studio.

        `projects` are those whose roles are asked for, by default all. A project whose Label Studio has another address
        than our pages has no role. Raises `LabelStudioError` when Label Studio does not say it.
        """
        session = _session(cookies)
        if session is None:
            return None
        wanted = [record.project for record in self._services.projects] if projects is None else list(projects)
        shared = {project: url for project in wanted if (url := self._label_studio(project)) is not None}
        url = next(iter(shared.values()), None) or self._any_label_studio()
        if url is None:
            return None
        me = self._asked(url, "/api/current-user/whoami", session, _WhoAmI)
        if me is None:
            return None
        roles: dict[str, Role] = {}
        for project, address in shared.items():
            about = self._asked(address, f"/api/projects/{project}", session, _Project)
            if about is not None and str(about.id) == project:
                roles[project] = "lead" if self._is_lead(me, about) else "annotator"
        return Person(me.id, me.email, roles)

    def _is_lead(self, me: _WhoAmI, about: _Project) -> bool:
        """Return whether a person leads a project: the settings say who does, else who created it does."""
        if self._leads:
            return me.email.lower() in self._leads
        return about.created_by is not None and about.created_by.id == me.id

    def _label_studio(self, project: str) -> str | None:
        """Return the configured address of a project's Label Studio, None where its pages and ours have not one."""
        if not is_number(project) or one_address(self._services, project) is None:
            return None
        return self._services.label_studio(project)[0]

    def _any_label_studio(self) -> str | None:
        if one_address(self._services, None) is not None:
            return self._services.label_studio(None)[0]
        return next(filter(None, (self._label_studio(record.project) for record in self._services.projects)), None)

    def _asked(self, url: str, path: str, session: str, model: type[Answer]) -> Answer | None:
        """Return Label Studio's answer, at most a minute old; None where it refuses the session."""
        key = hashlib.sha256(f"{url}\n{path}\n{session}".encode()).digest()
        now = time.monotonic()
        with self._lock:
            until, kept = self._kept.get(key, (0.0, None))
        if now < until:
            return kept if isinstance(kept, model) else None
        answer = _ask(url, path, session, model)
        with self._lock:
            self._kept[key] = now + KEPT_S, answer
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return answer


def _session(cookies: str | None) -> str | None:
    """Return Label Studio's session in a header of cookies; None where it has none, an odd one, or several."""
    found = set(_COOKIE.findall(cookies or ""))
    session = found.pop() if len(found) == 1 else ""
    return session if _SESSION.fullmatch(session) else None


def _ask(url: str, path: str, session: str, model: type[Answer]) -> Answer | None:
    """Return Label Studio's answer to a question in the name of a session. Raises `LabelStudioError`."""
    doing = "ask who a person is"
    headers = {"Cookie": f"sessionid={session}"}
    try:
        # A client of its own: Label Studio's answers may set cookies, which must not meet another person's request.
        with http_client(url, timeout=TIMEOUT_S, headers=headers, max_bytes=MAX_BYTES) as client:
            response = client.get(path)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(url, doing, error) from None
    if response.status_code in {401, 403, 404}:
        return None
    if not response.is_success:
        raise refusal(url, doing, response.status_code, {})
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise LabelStudioError(
            f"Cannot {doing}: Label Studio at {url} sent an answer to {path} that cannot be parsed.",
            hint="Run `taxonomist doctor`: it checks the version of Label Studio.",
        ) from None
