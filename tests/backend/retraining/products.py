"""Imports whose tasks name a product: several images of each, which are no near-duplicates."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.backend.state.image_folders import image_folder
from tests.small_world import COLOURS, PATHS

VIEWS = 4
WHEN = {"created_at": "2026-11-24T15:00:00Z", "updated_at": "2026-11-24T15:00:00Z"}


def patchwork(path: tuple[str, ...], seed: int) -> bytes:
    """Return a JPEG of 16 squares in shades of the path's colour: no two are near-duplicates."""
    shades = np.random.default_rng(seed).normal(0, 50, (4, 4, 3))
    pixels = np.clip(np.array(COLOURS[path]) + shades, 0, 255).astype(np.uint8).repeat(12, axis=0).repeat(12, axis=1)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def add_products(services: Services, folder: Path, first: int, count: int, *, field: str | None = "sku") -> None:
    """Import an export with `VIEWS` images of `count` products; the field of the tasks names them, p0, p1, ….

    Product n is of kind n modulo 4. No two images are near-duplicates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for number in range(first * VIEWS, (first + count) * VIEWS):
        path = PATHS[(number // VIEWS) % len(PATHS)]
        file = folder / f"p{number // VIEWS}_{number % VIEWS}.jpg"
        file.write_bytes(patchwork(path, number))
        result = [{"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [list(path)]}}]
        data = {"image": str(file)} | ({field: f"p{number // VIEWS}"} if field else {})
        annotation = {"id": number, "completed_by": 1, "result": result, **WHEN}
        tasks.append({"id": number, "project": 7, "data": data, "annotations": [annotation], **WHEN})
    export = folder / f"export-{first}.json"
    export.write_text(json.dumps(tasks))
    services.projects.update("7", image_folders=(image_folder(folder),))
    import_export(services, export, project="7")
