"""What a lead changes in a project, each after a confirmation, and the list of what was changed."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.services import registry_name
from taxonomist.backend.status import collect_overview
from taxonomist.backend.web.console import wording
from taxonomist.backend.web.console.pages.addresses import link, see_other
from taxonomist.backend.web.console.pages.frame import Frame
from taxonomist.backend.web.console.session import Visitor
from taxonomist.backend.web.people import AuditLog
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.served_versions import promote, roll_back
from taxonomist.taxonomy.errors import NotFoundError


def add_change_pages(pages: Blueprint, frame: Frame, use_cases: UseCases) -> None:
    """Add the routes that change a project, and the list of changes."""
    services, sessions = frame.services, frame.sessions
    audit_log = AuditLog(services.settings.home)

    @pages.get("/project/<project>/changes")
    @frame.for_leads
    def changes(project: str) -> ResponseReturnValue:
        found = audit_log.entries(project, limit=101, below=request.args.get("below", type=int))
        return frame.project_page(
            "changes.html",
            project,
            "changes",
            entries=found[:100],
            has_more=len(found) > 100,
            actions=wording.ACTIONS,
        )

    def change(
        project: str, action: str, template: str, act: Callable[[], object], **values: object
    ) -> ResponseReturnValue:
        """Ask for a confirmation, and for the password where it was not given lately; then act."""
        visitor: Visitor = g.visitor
        values |= {"project": project, "tab": "overview", "action": action}
        if request.method == "GET":
            return frame.page(template, wrong=False, **values)
        if not visitor.is_confirmed:
            if not sessions.is_password(request.form.get("password", "")):
                return frame.page(template, wrong=True, **values), 401
            g.session = sessions.confirm(visitor.session)
        before = services.registry.champion(registry_name(project))
        act()
        now = services.registry.champion(registry_name(project))
        audit_log.add(visitor.name, action, project=project, what=now or "", before=before)
        return see_other(f"{link(project, 'overview')}?done={action}")

    @pages.route("/project/<project>/retrain", methods=["GET", "POST"], endpoint="retrain")
    @frame.for_leads
    def retrain_project(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        if request.method == "POST":
            use_cases.start_training(project)
            audit_log.add(g.visitor.name, "retrain", project=project)
            return see_other(f"{link(project, 'overview')}?done=retrain")
        return frame.page(
            "retrain.html", overview=found, project=project, tab="overview", action="retrain", wrong=False
        )

    @pages.route("/project/<project>/promote", methods=["GET", "POST"], endpoint="promote")
    @frame.for_leads
    def promote_version(project: str) -> ResponseReturnValue:
        found, version = collect_overview(services, project), request.values.get("version", "")
        wanted = next((figures for figures in found.versions if figures.version == version), None)
        if wanted is None:
            raise NotFoundError(f"Project {project} has no version {version}.")
        return change(
            project,
            "promote",
            "promote.html",
            lambda: promote(services, project, version),
            overview=found,
            version=wanted,
            wording=wording,
        )

    @pages.route("/project/<project>/roll-back", methods=["GET", "POST"], endpoint="roll_back")
    @frame.for_leads
    def roll_back_project(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        return change(project, "roll-back", "roll_back.html", lambda: roll_back(services, project), overview=found)
