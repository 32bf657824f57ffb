"""The forms in which Label Studio exports annotations: recognised, and brought into that of the export *JSON*.

Taken are the list of tasks of *JSON*, its older form with `completions`, a single task, the annotations that a target
storage holds (one file each), and files for Label Studio's import, with or without annotations. *JSON-MIN*, *CSV* and
the exports for detectors (*COCO*, *YOLO*) do not say which annotations were skipped or are ground truth, so they are
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.names import shorten

AS_JSON = "Export the project as JSON, not JSON-MIN or CSV."
_MIN_FIELDS = {"annotation_id", "annotator", "lead_time"}  # what JSON-MIN and CSV write beside the task's own fields
_TASK_FIELDS = {"data", "annotations", "completions", "predictions", "drafts", "result"}


def check_form(export: Path, top: Collection[str], first: Collection[str]) -> None:
    """Raise `ConfigError` for a form that cannot be taken.

    `top` has the keys of a file that is one object, `first` those of the first object of a list.
    """
    if {"images", "categories"} <= set(top):
        raise ConfigError(f"{export} is an export for detectors (COCO): it has no annotators.", hint=AS_JSON)
    if top and not {"data", "result"} & set(top):
        raise ConfigError(
            f"{export} is not a list of tasks, it has the fields {', '.join(map(shorten, list(top)[:10]))}.",
            hint=AS_JSON,
        )
    if _is_json_min(first):
        raise ConfigError(
            f"{export} is the export JSON-MIN. It does not say which annotations were skipped or are ground truth.",
            hint=AS_JSON,
        )


def check_csv(file: Path, columns: Collection[str]) -> None:
    """Raise `ConfigError` when the columns of a CSV are those of Label Studio's export CSV (or TSV)."""
    names = {column.strip().lower() for column in columns}
    if {"annotation_id", "lead_time"} <= names and "file" not in names:
        raise ConfigError(
            f"{file} is the export CSV of Label Studio. It does not say which annotations were skipped or are ground "
            "truth.",
            hint=AS_JSON,
        )


def as_task(item: object) -> object:
    """Return an item of a file as a task of the export JSON, with ids where it has none.

    An id is derived from the task's data and the annotator, so importing the file again changes nothing. What is not a
    task is returned unchanged. Raises `BadRequestError` for a record of JSON-MIN, and for one that says too little.
    """
    if not isinstance(item, Mapping):
        return item
    if _is_json_min(item):
        raise BadRequestError(f"a record of the export JSON-MIN. {AS_JSON}")
    task = dict(item)
    if isinstance(item.get("task"), Mapping) and "result" in item:  # an annotation of a target storage
        task = {**item["task"], "annotations": [{key: value for key, value in item.items() if key != "task"}]}
    elif item.keys() - {"id"} and not _TASK_FIELDS & item.keys():  # the data of a task alone, as in import files
        task = {"id": item.get("id"), "data": task}
    elif "result" in item and "data" not in item:
        raise BadRequestError(f"an annotation without the data of its task. {AS_JSON}")
    if completions := task.pop("completions", None):
        both = [part for part in (task.get("annotations"), completions) if part]
        odd = next((part for part in both if not isinstance(part, list)), None)
        task["annotations"] = [found for part in both for found in part] if odd is None else odd
    task["id"] = plain_id(task.get("id"))
    if task["id"] is None:
        if not isinstance(task.get("data"), Mapping):
            raise BadRequestError(f'a task without an id, whose "data" is {shorten(repr(task.get("data")))}')
        task["id"] = f"data-{digest(task['data'])}"
    if isinstance(task.get("annotations"), list):
        task["annotations"] = _with_ids(task["annotations"], task.get("id"))
    return task


def _is_json_min(keys: Collection[str]) -> bool:
    return not _TASK_FIELDS & set(keys) and len(_MIN_FIELDS & set(keys)) > 1


def _with_ids(annotations: list[Any], task_id: object) -> list[Any]:
    numbers: Counter[str] = Counter()
    found = []
    for annotation in annotations:
        if isinstance(annotation, Mapping):
            annotation = {**_modern(annotation), "id": plain_id(annotation.get("id"))}
            if annotation.get("id") is None and annotation.get("unique_id") is None:
                person = annotation.get("completed_by", annotation.get("created_username"))
                annotator = digest(person)[:8] if isinstance(person, Mapping) else str(person)
                numbers[annotator] += 1
                annotation = {**annotation, "id": f"{task_id}/{annotator}/{numbers[annotator]}"}
            elif annotation.get("id") is None:
                annotation = {**annotation, "id": annotation["unique_id"]}
        found.append(annotation)
    return found


def plain_id(value: object) -> object:
    """Return an id as Label Studio writes it. Tables turn 1 into 1.0 and a missing id into an empty text."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value.strip() or None if isinstance(value, str) else value


def _modern(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an annotation with today's names: completions said `skipped` and `honeypot`."""
    names = {"skipped": "was_cancelled", "honeypot": "ground_truth"}
    renamed = {new: annotation[old] for old, new in names.items() if old in annotation and new not in annotation}
    return {**annotation, **renamed} if renamed else annotation


def digest(value: object) -> str:
    """Return a short name of a JSON value, the same for the same value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
