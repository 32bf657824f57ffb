"""The demo's project in Label Studio: its taxonomy and its pictures come from a catalogue."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import httpx

from taxonomist.backend.demo.accounts import checked
from taxonomist.backend.demo.environment import Progress, silent
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath

CATALOGUE = Path(__file__).parent / "catalogue"
CONTROL = "category"
TO_NAME = "image"
UPLOAD_BATCH = 50  # Label Studio takes at most 100 files in a request

_Tree: TypeAlias = "dict[str, _Tree]"


@dataclass(frozen=True)
class Picture:
    """A picture of a catalogue and what it truly shows."""

    file: Path
    path: TaxonomyPath
    product: str


@dataclass(frozen=True)
class DemoTask:
    """A task of the project and the picture that it shows."""

    id: int
    uri: str
    picture: Picture


def read_catalogue(folder: Path = CATALOGUE) -> tuple[Picture, ...]:
    """The pictures that `folder/manifest.csv` lists, in its order; their files are in `folder/images`.

    Raises `ConfigError` when the manifest is missing or names a file that is not there.
    """
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        raise ConfigError(f"There is no catalogue at {folder}: {manifest.name} is missing.")
    with manifest.open(newline="", encoding="utf-8") as stream:
        pictures = tuple(_picture(folder, row) for row in csv.DictReader(stream))
    missing = [picture.file.name for picture in pictures if not picture.file.exists()]
    if missing:
        raise ConfigError(f"{len(missing)} pictures of {manifest} are missing in images/, the first is {missing[0]}.")
    return pictures


def _picture(folder: Path, row: Mapping[str, str]) -> Picture:
    levels = sorted(int(name.removeprefix("level")) for name in row if name.startswith("level"))
    path = tuple(row[f"level{level}"] for level in levels if row[f"level{level}"])
    return Picture(folder / "images" / row["file"], path, row["product"])


def label_config(paths: Iterable[TaxonomyPath]) -> str:
    """The labelling config of an image with one `<Taxonomy>` named `CONTROL` that has all `paths`."""
    return write_label_config(sorted(set(paths)), control=CONTROL, image=TO_NAME)


def find_project(client: httpx.Client, title: str) -> int | None:
    """The id of the project with that title, None when there is none."""
    for project in checked(client.get("/api/projects", params={"page_size": 1000})).json()["results"]:
        if project["title"] == title:
            return int(project["id"])
    return None


def create_project(client: httpx.Client, title: str, config: str, *, annotators: int = 3) -> int:
    """The id of a new project whose tasks want `annotators` annotations each.

    Raises `LabelStudioError` when Label Studio refuses the config.
    """
    settings = {
        "title": title,
        "label_config": config,
        "maximum_annotations": annotators,
        "show_collab_predictions": True,  # without it nothing is pre-filled
    }
    return int(checked(client.post("/api/projects", json=settings)).json()["id"])


def upload(
    client: httpx.Client,
    project_id: int,
    pictures: Sequence[Picture],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[DemoTask, ...]:
    """Upload `pictures` in a random order, so that the labelling stream shows a mixture; returns the project's tasks.

    Pictures that the project has already are not uploaded again. Raises `LabelStudioError` when Label Studio refuses.
    """
    there = {task.picture.file.name for task in tasks(client, project_id, pictures)}
    left = [picture for picture in pictures if picture.file.name not in there]
    random.Random(seed).shuffle(left)  # noqa: S311 - no secret
    for begin in range(0, len(left), UPLOAD_BATCH):
        progress(f"Uploading pictures: {begin} of {len(left)}")
        with ExitStack() as stack:
            batch = [picture.file for picture in left[begin : begin + UPLOAD_BATCH]]
            # Of several files under one field name Label Studio keeps the last only.
            files = [(file.name, (file.name, stack.enter_context(file.open("rb")), "image/jpeg")) for file in batch]
            checked(client.post(f"/api/projects/{project_id}/import", files=files, timeout=300))
    return tasks(client, project_id, pictures)


def tasks(client: httpx.Client, project_id: int, pictures: Iterable[Picture]) -> tuple[DemoTask, ...]:
    """The project's tasks, by id, that show one of `pictures`; others are left out."""
    known = {picture.file.name: picture for picture in pictures}
    parameters: dict[str, str | int] = {"project": project_id, "page_size": 10_000, "fields": "task_only"}
    found = checked(client.get("/api/tasks", params=parameters, timeout=300)).json()["tasks"]
    pairs = [(int(task["id"]), str(task["data"]["image"])) for task in found]
    return tuple(
        DemoTask(task_id, uri, known[uploaded_name(uri)])
        for task_id, uri in sorted(pairs)
        if uploaded_name(uri) in known
    )


def uploaded_name(uri: str) -> str:
    """The name that a file had before Label Studio put eight digits and a dash before it."""
    return PurePosixPath(unquote(urlsplit(uri).path)).name.partition("-")[2]
