"""The demo's project in Label Studio: its taxonomy and its images come from a catalogue."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import httpx

from taxonomist.backend.demo.accounts import checked
from taxonomist.backend.demo.environment import Say, silent
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath

CATALOGUE = Path(__file__).parent / "catalogue"
CONTROL = "category"
TO_NAME = "image"
PRODUCT = "product"
UPLOAD_BATCH = 50  # Label Studio takes at most 100 files in a request

_Tree: TypeAlias = "dict[str, _Tree]"


@dataclass(frozen=True)
class CatalogueImage:
    """An image of a catalogue, with its true path and its product."""

    file: Path
    path: TaxonomyPath
    product: str


@dataclass(frozen=True)
class DemoTask:
    """A task of the project and the image that it shows."""

    id: int
    uri: str
    image: CatalogueImage


def read_catalogue(folder: Path = CATALOGUE) -> tuple[CatalogueImage, ...]:
    """Return the images that `folder/manifest.csv` lists, in its order; their files are in `folder/images`.

    Raises `ConfigError` when the manifest is missing or names a file that does not exist.
    """
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        raise ConfigError(f"There is no catalogue at {folder}: {manifest.name} is missing.")
    with manifest.open(newline="", encoding="utf-8") as stream:
        images = tuple(_image(folder, row) for row in csv.DictReader(stream))
    missing = [image.file.name for image in images if not image.file.exists()]
    if missing:
        raise ConfigError(f"{len(missing)} images of {manifest} are missing in images/, the first is {missing[0]}.")
    return images


def _image(folder: Path, row: Mapping[str, str]) -> CatalogueImage:
    levels = sorted(int(name.removeprefix("level")) for name in row if name.startswith("level"))
    path = tuple(row[f"level{level}"] for level in levels if row[f"level{level}"])
    return CatalogueImage(folder / "images" / row["file"], path, row["product"])


def label_config(paths: Iterable[TaxonomyPath]) -> str:
    """Return the labelling config of an image with one `<Taxonomy>` named `CONTROL` that has all `paths`."""
    return write_label_config(sorted(set(paths)), control=CONTROL, image=TO_NAME)


def find_project(client: httpx.Client, title: str) -> int | None:
    """Return the id of the project with that title, None when there is none."""
    for project in checked(client.get("/api/projects", params={"page_size": 1000})).json()["results"]:
        if project["title"] == title:
            return int(project["id"])
    return None


def create_project(client: httpx.Client, title: str, config: str, *, annotators: int = 3) -> int:
    """Create a project whose tasks need `annotators` annotations each; return its id.

    Raises `LabelStudioError` when Label Studio refuses the config.
    """
    settings = {
        "title": title,
        "label_config": config,
        "maximum_annotations": annotators,
        "show_collab_predictions": True,  # pre-filling needs it
    }
    return int(checked(client.post("/api/projects", json=settings)).json()["id"])


def upload(
    client: httpx.Client,
    project_id: int,
    images: Sequence[CatalogueImage],
    *,
    seed: int = 0,
    say: Say = silent,
) -> tuple[DemoTask, ...]:
    """Upload `images` in a random order, so that the label stream shows a mixture; return the project's tasks.

    The field `PRODUCT` of each task names its product. Images that the project has already are not uploaded again.
    Raises `LabelStudioError` when Label Studio refuses.
    """
    uploaded = {task.image.file.name for task in tasks(client, project_id, images)}
    left = [image for image in images if image.file.name not in uploaded]
    random.Random(seed).shuffle(left)  # noqa: S311 - no secret
    for begin in range(0, len(left), UPLOAD_BATCH):
        say(f"Uploading images: {begin} of {len(left)}")
        with ExitStack() as stack:
            batch = [image.file for image in left[begin : begin + UPLOAD_BATCH]]
            # Label Studio keeps only the last of several files with one field name.
            files = [(file.name, (file.name, stack.enter_context(file.open("rb")), "image/jpeg")) for file in batch]
            address = f"/api/projects/{project_id}/import"
            stored = checked(client.post(address, files=files, params={"commit_to_project": "false"}, timeout=300))
        _make_tasks(client, project_id, left[begin : begin + UPLOAD_BATCH], stored.json()["file_upload_ids"])
    return tasks(client, project_id, images)


def _make_tasks(
    client: httpx.Client, project_id: int, images: Sequence[CatalogueImage], file_uploads: Sequence[int]
) -> None:
    """Make a task of each uploaded image. Label Studio would make them of the files alone, without a product."""
    parameters = {"ids": json.dumps(list(file_uploads))}
    found = checked(client.get(f"/api/projects/{project_id}/file-uploads", params=parameters, timeout=300)).json()
    address = {uploaded_name(upload["file"]): f"/data/{upload['file']}" for upload in found}
    data = [{"image": address[image.file.name], PRODUCT: image.product} for image in images]
    checked(client.post(f"/api/projects/{project_id}/import", json=[{"data": row} for row in data], timeout=300))


def tasks(client: httpx.Client, project_id: int, images: Iterable[CatalogueImage]) -> tuple[DemoTask, ...]:
    """Return the project's tasks that show one of `images`, by id."""
    known = {image.file.name: image for image in images}
    parameters: dict[str, str | int] = {"project": project_id, "page_size": 10_000, "fields": "task_only"}
    found = checked(client.get("/api/tasks", params=parameters, timeout=300)).json()["tasks"]
    pairs = [(int(task["id"]), str(task["data"]["image"])) for task in found]
    return tuple(
        DemoTask(task_id, uri, known[uploaded_name(uri)])
        for task_id, uri in sorted(pairs)
        if uploaded_name(uri) in known
    )


def uploaded_name(uri: str) -> str:
    """Return the name of an uploaded file without the eight digits and the dash that Label Studio puts before it."""
    return PurePosixPath(unquote(urlsplit(uri).path)).name.partition("-")[2]
