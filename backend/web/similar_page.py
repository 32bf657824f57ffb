"""The look-alike page: the labelled look-alikes of an image, shown beside it in Label Studio."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from urllib.parse import unquote_plus, urlencode

import numpy as np
from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue
from numpy.typing import NDArray

from taxonomist.backend.label_studio.requests import MAX_ADDRESS_CHARACTERS, project_id
from taxonomist.backend.labelling.missing_annotators import missing_annotators
from taxonomist.backend.prediction.embedding import embed, embed_without_storing
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.backend.services.framing import framing_sites
from taxonomist.backend.state.credentials import LOOK_ALIKES, THUMBNAIL
from taxonomist.inference.image_decoding import decoded
from taxonomist.storage.catalog.documents import image_id
from taxonomist.storage.images import without_query
from taxonomist.storage.images.loading import loading
from taxonomist.taxonomy.errors import (
    BadRequestError,
    ConfigError,
    ImageUnavailableError,
    NotFoundError,
    TaxonomistError,
)
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

log = logging.getLogger(__name__)

THUMBNAIL_PX = 240
_ESCAPED = re.compile(r"%2F|https?%3A", re.IGNORECASE)  # the whole address is escaped, not only its blanks
_CSP = "default-src 'none'; img-src 'self'{origins}; style-src 'unsafe-inline'; frame-ancestors {sites}"


def similar_pages(services: Services, predictor: Predictor) -> Blueprint:
    """Return the routes /similar and /thumbnail. Both need the project's signed key: a browser has no password."""
    pages = Blueprint("pages", __name__)

    @lru_cache(maxsize=1024)
    def thumbnail_bytes(project: str, uri: str, file_hash: str | None) -> bytes:  # noqa: ARG001
        """Return the thumbnail of an image; `file_hash` tells it from a former file at the same address."""
        with (
            loading(_deadline(services)),
            decoded(
                services.images(project).read(uri),
                max_pixels=services.settings.max_image_pixels,
                min_side=2 * THUMBNAIL_PX,
            ) as (image, _, _),
        ):
            image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=85)
            return out.getvalue()

    # Its links are relative, since a proxy may serve it below any path.
    @pages.get("/similar")
    def similar() -> ResponseReturnValue:
        project, until = _project_and_end(services, LOOK_ALIKES)
        key = services.credentials.project_key(project, THUMBNAIL, until=until)
        uri = _source()
        cards, shortlists, new_nodes, reason = [], {}, [], ""
        try:
            look_alikes, listed = _look_alikes(services, predictor, project, uri)
            shortlists = {control: [format_path(path) for path in paths] for control, paths in listed.items()}
            cards = [
                {
                    "image": _link(services, look_alike.uri)
                    or f"thumbnail?{urlencode({'project': project, 'key': key, 'id': look_alike.image_id})}",
                    "paths": [format_path(path) for paths in look_alike.labels.values() for path in paths],
                    "similarity": f"{look_alike.similarity:.2f}",
                }
                for look_alike in look_alikes
            ]
            reason = "" if cards else _why_none(services, project)
            new_nodes = [
                format_path(path) for path in predictor.new_nodes(project, image_id(uri), look_alikes).values()
            ]
        except TaxonomistError as error:
            log.warning("look-alikes of %s: %s", without_query(uri), error)
            reason = str(error)
        response = Response(
            render_template("similar.html", cards=cards, shortlists=shortlists, new_nodes=new_nodes, reason=reason)
        )
        blobs = services.blob_images
        response.headers["Content-Security-Policy"] = _CSP.format(
            origins=f" {blobs.origin}" if blobs else "", sites=framing_sites(services, project).header
        )
        response.headers["Cache-Control"] = "private, max-age=5"  # Label Studio requests the page twice per task
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @pages.get("/thumbnail")
    def thumbnail() -> ResponseReturnValue:
        project, _ = _project_and_end(services, THUMBNAIL)
        document = services.catalog.get(request.args.get("id", ""))
        labels = document.projects.get(project) if document and may_use(document, services.settings) else None
        if document is None or labels is None or not labels.accepted:
            raise NotFoundError("There is no such labelled image in this project.")
        response = Response(thumbnail_bytes(project, labels.uri, document.file_hash), content_type="image/jpeg")
        response.headers["Content-Security-Policy"] = f"frame-ancestors {framing_sites(services, project).header}"
        response.headers["Cache-Control"] = "private, max-age=86400"
        return response

    return pages


def _deadline(services: Services) -> float:
    """Return when the image of a page must have been read: as long as one image may take, whatever it is read from."""
    return time.monotonic() + services.settings.image_timeout


def _project_and_end(services: Services, page: str) -> tuple[str, date]:
    """Return the project of a request and the last day of its key."""
    project, key = project_id(request.args.get("project", "")), request.args.get("key", "")
    former_until = services.projects.get(project).former_keys_until
    until = services.credentials.check_project_key(project, key, page, former_until=former_until)
    if not services.projects.exists(project):  # it was forgotten: nothing of it is stored again
        raise NotFoundError(f"Project {project} is not known.")
    return project, until


def _source() -> str:
    """Return the image's address: everything after `src=`, which comes last, since Label Studio does not escape it."""
    _, mark, raw = request.query_string.decode("utf-8", "replace").partition("src=")
    if not mark or not raw:
        raise BadRequestError("The address needs src=… with the image, as its last part.")
    if len(raw) > MAX_ADDRESS_CHARACTERS:
        raise BadRequestError(f"The image's address has {len(raw):,} characters, more than {MAX_ADDRESS_CHARACTERS:,}.")
    return unquote_plus(raw) if _ESCAPED.match(raw) else raw


def _link(services: Services, uri: str) -> str | None:
    """Return the address at which a browser gets an image in Azure; None for other images, which /thumbnail sends."""
    blobs = services.blob_images
    return blobs.link(uri) if blobs is not None and blobs.owns(uri) else None


def _why_none(services: Services, project: str) -> str:
    waiting = missing_annotators(services, project)
    return f"No labelled look-alikes yet: {waiting or 'they appear as soon as annotators agree on images.'}"


def _look_alikes(
    services: Services, predictor: Predictor, project: str, uri: str
) -> tuple[list[LookAlike], Mapping[str, tuple[TaxonomyPath, ...]]]:
    """Return the labelled look-alikes of an image, and its shortlist by control."""
    model = predictor.model(project)
    backbone = model.backbone if model else services.registry.champion("backbone")
    if backbone is None:
        return [], {}
    name, deadline = image_id(uri), _deadline(services)
    document = services.catalog.get(name)
    if document is not None and project in document.projects:
        uris = {name: document.projects[project].uri}
        embedded = embed(services, project, uris, backbone, deadline=deadline, listed=True)
    else:  # such as the sample that Label Studio shows in the preview of its settings
        known = _address_of_task(services, predictor, project, name)
        embedded = embed_without_storing(
            services, project, {name: known or uri}, backbone, deadline=deadline, with_token=known is not None
        )
    if name in embedded.late:
        raise ImageUnavailableError(
            f"The image was not read within {services.settings.image_timeout:g} seconds.", hint="Reload the page later."
        )
    if name in embedded.failures:
        raise embedded.failures[name]
    vector = np.asarray(embedded.vectors[name])
    look_alikes = predictor.look_alikes.shown(project, vector, backbone, exclude=name)
    return look_alikes, _shortlists(predictor, project, name, vector) if model else {}


def _shortlists(
    predictor: Predictor, project: str, image: str, vector: NDArray[np.float32]
) -> Mapping[str, tuple[TaxonomyPath, ...]]:
    """Return the shortlist of an image by control; none where the project's taxonomy cannot be read, which costs no
    look-alike."""
    try:
        return predictor.shortlists(project, image, vector)
    except ConfigError as error:
        log.warning("project %s: no shortlist: %s", project, error)
        return {}


def _address_of_task(services: Services, predictor: Predictor, project: str, image: str) -> str | None:
    """Return the address that an image has in a task, else None: what a browser names is read without the token."""
    for task in services.journal.tasks(project, image):
        for uri in (task.uri, *task.images.values()):
            if image_id(uri) == image:
                return uri
    return predictor.previewed(project, image)
