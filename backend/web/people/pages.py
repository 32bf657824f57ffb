"""With one address, a page of a project is for those who may see the project in Label Studio."""

from __future__ import annotations

from flask import Blueprint, Response, request

from taxonomist.backend.label_studio.requests import project_id
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.backend.web.people.person import People


class PagesOfPeople:
    """Decides who gets a page; the key in its address is checked besides.

    Where Label Studio has another address, its session does not reach us, and the key alone decides.
    """

    def __init__(self, services: Services, people: People) -> None:
        self._services = services
        self._people = people

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
        reason = "Log in to Label Studio, then reload this page." if person is None else "You may not see this project."
        response = Response(reason, 403, content_type="text/plain; charset=utf-8")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'self'"
        return response


def _for_this_session(response: Response) -> Response:
    """Let a browser that keeps a page ask again once the person has logged out."""
    response.vary.add("Cookie")
    return response
