"""What all pages of the console have: the frame around them, and the question who may see them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import g, render_template, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.services import Services
from taxonomist.backend.status.overview import collect_frame
from taxonomist.backend.web.console import charts
from taxonomist.backend.web.console.language import Language
from taxonomist.backend.web.console.pages.addresses import here, link, relative_to_root, see_other
from taxonomist.backend.web.console.pages.assets import Assets
from taxonomist.backend.web.console.session import COOKIE, Sessions, Visitor
from taxonomist.taxonomy.errors import NotFoundError

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])
THEME = "taxonomist_theme"


class Frame:
    """Makes pages and guards them. One object for all threads of the server.

    A request has its visitor, language and new session, if any, in `flask.g`.
    """

    def __init__(self, services: Services, sessions: Sessions, assets: Assets) -> None:
        self.services = services
        self.sessions = sessions
        self._assets = assets

    def page(self, template: str, **values: object) -> str:
        """Return a page of a template."""
        visitor: Visitor | None = g.visitor
        if (
            visitor is not None
            and g.session is None
            and self.sessions.cookie(visitor.session) != request.cookies.get(COOKIE)
        ):
            g.session = visitor.session
        language: Language = g.language
        theme = request.cookies.get(THEME)
        return render_template(
            template,
            **values,
            language=language,
            t=language.t,
            n=language.n,
            visitor=visitor,
            theme=theme if theme in ("light", "dark") else None,
            root=relative_to_root(""),
            here=here(),
            link=link,
            asset=self._assets.link,
            charts=charts,
        )

    def project_page(self, template: str, project: str, tab: str, **values: object) -> str:
        """Return a page of a project whose head needs no overview."""
        return self.page(template, overview=collect_frame(self.services, project), project=project, tab=tab, **values)

    def for_leads(self, view: View) -> View:
        """Let leads of the project in the path see a view; send others to the login, or refuse them."""

        def guarded(**values: Any) -> ResponseReturnValue:
            visitor: Visitor | None = g.visitor
            if visitor is None:
                return see_other(f"login?{urlencode({'next': here()})}")
            if "project" in values:
                role = visitor.role(values["project"])
                if role is None or not self.services.projects.exists(values["project"]):
                    raise NotFoundError(f"Project {values['project']} is not known.")
                if role != "lead":
                    return self.page("error.html", status=403, error=""), 403
            if request.method == "POST" and not hmac.compare_digest(
                request.form.get("token", "").encode(), visitor.token.encode()
            ):
                return self.page("error.html", status=403, error="", reason="form"), 403
            return view(**values)

        guarded.__name__ = view.__name__
        return guarded  # type: ignore[return-value]
