"""The images of a project: by pages and filters, one with all about it, and their thumbnails."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.prediction.assistance import assist_with
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.status.images import ImageFilter, collect_image, collect_image_counts, collect_images
from taxonomist.backend.web.console import wording
from taxonomist.backend.web.console.image_filters import choices, filter_of, query_of, quoted
from taxonomist.backend.web.console.pages.frame import Frame
from taxonomist.backend.web.thumbnails import Thumbnails, unreadable_image
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.taxonomy.errors import NotFoundError, TaxonomistError

log = logging.getLogger(__name__)


def add_image_pages(pages: Blueprint, frame: Frame, use_cases: UseCases, thumbnails: Thumbnails) -> None:
    """Add the routes of a project's images."""
    services = frame.services

    @pages.get("/project/<project>/images")
    @frame.for_leads
    def images(project: str) -> ResponseReturnValue:
        wanted, counts = filter_of(request.args), collect_image_counts(services, project)
        shown = collect_images(services, project, wanted, after=request.args.get("after", ""))
        return frame.project_page(
            "images.html",
            project,
            "images",
            counts=counts,
            shown=shown,
            choices=choices(counts, wanted, g.language),
            more=f"images?{query_of(wanted, after=shown.after)}" if shown.after else None,
            wording=wording,
            quoted=quoted,
            query=query_of(wanted),
            can_select=True,
        )

    @pages.get("/project/<project>/image")
    @frame.for_leads
    def image(project: str) -> ResponseReturnValue:
        found = collect_image(services, project, request.args.get("id", ""))
        assistance = assist_with(services, use_cases.predictor, project, found.uri, submitted=True)
        return frame.project_page(
            "image.html",
            project,
            "images",
            image=found,
            groups=assistance.groups,
            wording=wording,
            quoted=quoted,
            product_query=query_of(ImageFilter(product=found.tile.product)) if found.tile.product else None,
        )

    @pages.get("/project/<project>/thumbnail")
    @frame.for_leads
    def thumbnail(project: str) -> ResponseReturnValue:
        document = services.catalog.get(request.args.get("id", ""))
        labels = document.projects.get(project) if document and may_use(document, services.settings) else None
        if document is None or labels is None:
            raise NotFoundError(f"Project {project} has no such image.")
        is_large = request.args.get("size") == "large"
        try:
            content = thumbnails.jpeg(project, labels.uri, document.file_hash, large=is_large)
        except TaxonomistError as error:
            log.warning("project %s: no thumbnail: %s", project, error)
            return Response(unreadable_image(), content_type="image/jpeg")
        response = Response(content, content_type="image/jpeg")
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response
