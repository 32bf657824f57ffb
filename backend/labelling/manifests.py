"""Images and labels from a CSV manifest of a catalogue.

A manifest becomes the same events as webhooks, so agreement, retraining and repeated imports work alike: importing the
same file again changes nothing, and a newer file replaces the labels of an older one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taxonomist.backend.label_studio.webhooks import annotation_saved
from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.import_result import ImportResult, ImportSummary, LeftOut
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import Event, TaskSaved
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config, write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

IMPORT_ANNOTATOR = "import"  # the annotator of rows without one; such rows are ground truth
CHUNK = 500  # files whose events are recorded together
_LEVEL = re.compile(r"level(\d+)")


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest; `path` is None for an image without a label."""

    file: Path
    path: TaxonomyPath | None
    group: str | None
    annotator: str | None


def read_manifest(manifest: Path, images: Path | None = None) -> tuple[list[ManifestRow], list[str]]:
    """Return the rows of a CSV with `file, level1, level2, …` and optional `product` and `annotator`, and its problems.

    Files are looked up in the folder `images`, or else beside the CSV and in `images/` beside it. A row whose file is
    missing is a problem instead of a row. Raises `ConfigError` when the CSV itself cannot be used.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or []
            if "file" not in columns:
                raise ConfigError(f"{manifest} has no column 'file'. Its columns are: {', '.join(columns) or 'none'}.")
            levels = sorted((int(match[1]), name) for name in columns if (match := _LEVEL.fullmatch(name)))
            folders = [images] if images else [manifest.parent, manifest.parent / "images"]
            return _rows(reader, [name for _, name in levels], [folder.resolve() for folder in folders])
    except FileNotFoundError:
        raise ConfigError(f"There is no file {manifest}.") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ConfigError(f"{manifest} cannot be read as CSV in UTF-8: {error}.") from None


def import_manifest(
    services: Services,
    manifest: Path,
    project: str,
    *,
    images: Path | None = None,
    progress: CountProgress = ignore_counts,
) -> ImportResult:
    """Import a catalogue, with its labels if it has some, into a project. Raises `ConfigError`."""
    rows, problems = read_manifest(manifest, images)
    if not rows:
        raise ConfigError(f"{manifest} has no row whose file exists.", hint=problems[0] if problems else None)
    record = services.projects.get(project)
    folder = (images or manifest.parent).resolve()
    if record.images_folder not in {None, folder}:
        raise ConfigError(
            f"Project {project} already reads images from {record.images_folder}.",
            hint="Give another name by --project.",
        )
    paths = dict.fromkeys(row.path for row in rows if row.path)
    xml = record.label_config or (write_label_config(paths) if paths else "")
    services.projects.update(project, images_folder=folder, label_config=xml)
    saved_at = datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
    source = manifest.name
    if not record.created:  # what earlier releases stored without a source was imported
        services.journal.adopt(project, source)
    rows_of: dict[Path, list[ManifestRow]] = {}
    for row in rows:
        rows_of.setdefault(row.file, []).append(row)
    problems += _unknown_paths(paths, parse_label_config(xml)) if paths else []
    summary = ImportSummary()
    summary.entries = len(rows) + len(problems)
    summary.leave_out(LeftOut("row of the manifest", problem) for problem in problems)
    files = list(rows_of)
    for start in range(0, len(files), CHUNK):
        chunk = {file: rows_of[file] for file in files[start : start + CHUNK]}
        events = [event for file in chunk for event in _events(project, source, file, chunk[file], xml, saved_at)]
        summary.annotations += sum(1 for event in events if not isinstance(event, TaskSaved))
        summary.images |= {image_id(str(file)) for file in chunk}
        services.journal.record(events)
        services.catalog.update_many(
            {image_id(str(file)): _add_to_project(project, file, chunk[file]) for file in chunk}
        )
        progress(min(start + CHUNK, len(files)), len(files))
    if summary.annotations:
        decide_all_dirty(services, project)
    return summary.result(services, project)


def _rows(
    reader: Iterable[Mapping[str, str]], levels: Sequence[str], folders: Sequence[Path]
) -> tuple[list[ManifestRow], list[str]]:
    rows, problems = [], []
    for number, line in enumerate(reader, start=2):
        name = (line.get("file") or "").strip()
        file = next((folder / name for folder in folders if name and _inside(folder, name)), None)
        if file is None:
            problems.append(f"line {number}: no file {name!r} under {folders[-1]}")
            continue
        path: list[str] = []
        for level in levels:
            node = (line.get(level) or "").strip()
            if not node:
                break
            path.append(node)
        group, annotator = ((line.get(column) or "").strip() or None for column in ("product", "annotator"))
        rows.append(ManifestRow(file, tuple(path) or None, group, annotator))
    return rows, problems


def _inside(folder: Path, name: str) -> bool:
    try:
        file = (folder / name).resolve()
        return file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError):
        return False


def _events(
    project: str, source: str, file: Path, rows: Sequence[ManifestRow], xml: str, saved_at: datetime
) -> Iterator[Event]:
    yield TaskSaved(project, source, str(file), str(file), saved_at)
    paths_of: dict[str | None, list[TaxonomyPath]] = {}
    for row in rows:
        if row.path:
            paths_of.setdefault(row.annotator, []).append(row.path)
    if not paths_of:
        return
    tree = parse_label_config(xml).trees[0]
    for annotator, paths in paths_of.items():
        unique = [list(path) for path in dict.fromkeys(paths)]
        value = {"taxonomy": unique} if tree.kind == "taxonomy" else {"choices": [path[-1] for path in unique]}
        region = {"from_name": tree.control, "to_name": tree.to_name, "type": tree.kind, "value": value}
        annotation = {
            "id": f"{file}|{annotator or IMPORT_ANNOTATOR}",
            "task": str(file),
            "completed_by": annotator or IMPORT_ANNOTATOR,
            "ground_truth": annotator is None,
            "was_cancelled": False,
            "created_at": saved_at.isoformat(),
            "updated_at": saved_at.isoformat(),
            "result": [region],
        }
        yield annotation_saved(project, source, annotation, str(file))


def _add_to_project(project: str, file: Path, rows: Sequence[ManifestRow]) -> Callable[[ImageDocument], ImageDocument]:
    group = next((row.group for row in rows if row.group), None)

    def change(document: ImageDocument) -> ImageDocument:
        labels = document.projects.get(project) or ProjectLabels(uri=str(file))
        labels = labels.model_copy(update={"group": group or labels.group})
        return document.model_copy(
            update={"uri_orig": document.uri_orig or str(file), "projects": {**document.projects, project: labels}}
        )

    return change


def _unknown_paths(paths: Iterable[TaxonomyPath], config: LabelConfig) -> list[str]:
    tree = config.trees[0]
    problems = []
    for path in paths:
        if path not in tree:
            nearest = tree.nearest(path)
            suggestion = f", did you mean {format_path(nearest)!r}?" if nearest else "."
            problems.append(f"{format_path(path)!r} is not in the project's taxonomy{suggestion}")
    return problems
