"""The list of projects, and the overview of one."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.status import collect_overview, collect_projects
from taxonomist.backend.status.versions import VersionFigures
from taxonomist.backend.web.console import charts, wording
from taxonomist.backend.web.console.language import Language
from taxonomist.backend.web.console.pages.frame import Frame
from taxonomist.taxonomy.errors import NotFoundError

DONE = {
    "retrain": "A training waits. It starts within a minute where the worker runs.",
    "promote": "The version is served now.",
    "roll-back": "The former version is served again.",
}


def add_overview_pages(pages: Blueprint, frame: Frame) -> None:
    """Add the routes of the list of projects, and of the overview of one."""
    services = frame.services

    @pages.get("/projects")
    @frame.for_leads
    def projects() -> ResponseReturnValue:
        try:
            rows = [row for row in collect_projects(services) if g.visitor.role(row.project)]
        except NotFoundError:  # the home is empty
            rows = []
        shown = [(row, [wording.to_do(need, g.language) for need in row.needs]) for row in rows]
        return frame.page("projects.html", rows=shown)

    @pages.get("/project/<project>/overview")
    @frame.for_leads
    def overview(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        done = DONE.get(request.args.get("done", ""))
        return frame.page(
            "overview.html",
            overview=found,
            project=project,
            tab="overview",
            todo=[wording.to_do(need, g.language) for need in found.needs],
            wording=wording,
            chart=_chart(found.versions, g.language),
            done=g.language.t(done) if done else None,
        )

    @pages.get("/project/<project>/set-aside")
    @frame.for_leads
    def set_aside(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        return frame.page("set_aside.html", overview=found, project=project, tab="overview")


def _chart(versions: Sequence[VersionFigures], language: Language) -> object:
    """Return the chart of the versions: macro-F1 on unseen products, and the share of suggestions that were right."""
    known = [version for version in versions if version.macro_f1]
    if not known:
        return None
    right = [version.right(blind=False) for version in known]
    return charts.lines(
        [version.version for version in known],
        [version.served or version.promoted is not False for version in known],
        [
            charts.Line(
                tuple(sum(v.macro_f1.values()) / len(v.macro_f1) if v.test_images else None for v in known), "f1"
            ),
            charts.Line(tuple(good / all_ if all_ else None for good, all_ in right), "right"),
        ],
        language.t("Macro-F1 on unseen products, and right suggestions, by version"),
    )
