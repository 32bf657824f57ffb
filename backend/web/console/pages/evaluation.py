"""The page that shows how good a version is."""

from __future__ import annotations

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.web.console.evaluation.values import evaluation_values
from taxonomist.backend.web.console.pages.frame import Frame


def add_evaluation_page(pages: Blueprint, frame: Frame) -> None:
    """Add the route of the evaluation."""

    @pages.get("/project/<project>/evaluation")
    @frame.for_leads
    def evaluation(project: str) -> ResponseReturnValue:
        values = evaluation_values(frame.services, project, request.args, g.language)
        return frame.project_page("evaluation.html", project, "evaluation", **values)
