"""With one address, a page of a project is for those who may see the project in Label Studio."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

from taxonomist.backend.label_studio.requests import project_id
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.backend.web.people.person import People

LOG_IN = "Log in to Label Studio, then reload this page."
NOT_YOURS = "You may not see this project."


class PagesOfPeople:
    """Decides who gets a page; the key in its address is checked besides. `refuse` makes the answer with a sentence.

    Where Label Studio has another address, its session does not reach us, and the key alone decides.
    """

    def __init__(self, services: Services, people: People, refuse: Callable[[str], Response]) -> None:
        self._services = services
        self._people = people
        self._refuse = refuse

    def guard(self, pages: Blueprint) -> None:
        """Decide about each of the pages before it is made. Call it before they are registered."""
        pages.before_request(self.refusal)
        pages.after_request(_for_this_session)

    def refusal(self) -> Response | None:
        """Return the answer to a request of a person who may not see its project, None for others.

        Raises `LabelStudioError` when Label Studio does not say who the person is.
        """
        project = project_id(request.args.get("project", ""))
        if one_address(self._services, project) is None:
            return None
        person = self._people.person(request.headers.get("Cookie"), [project])
        if person is not None and project in person.roles:
            return None
        return self._refuse(LOG_IN if person is None else NOT_YOURS)


def _for_this_session(response: Response) -> Response:
    """Let a browser that keeps a page ask again once the person has logged out."""
    response.vary.add("Cookie")
    return response
