"""Images and labels from files: a CSV manifest of a catalogue here, exports of Label Studio in `label_studio_export`.

Both become the same events that webhooks bring, so agreement, retraining and repeated imports work alike: what is
imported twice counts once, and a newer file wins over an older one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taxonomist.backend.label_studio.protocol import annotation_saved, label_config
from taxonomist.backend.labelling.decisions import decide_dirty
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import Event, TaskSaved
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig, write_label_config
from taxonomist.taxonomy.paths import TaxonomyPath, format_path

IMPORTED = "import"  # the annotator of rows that name none; such rows are taken as truth
CHUNK = 500
MOST_PROBLEMS = 1000
Advance = Callable[[int, int], None]
_LEVEL = re.compile(r"level(\d+)")


@dataclass(frozen=True)
class Row:
    """One line of a manifest; `path` is None for an image without label."""

    file: Path
    path: TaxonomyPath | None
    group: str | None
    annotator: str | None


@dataclass(frozen=True)
class Imported:
    """What an import came to."""

    project: str
    images: int
    annotations: int
    labelled: int
    problems: tuple[str, ...]
    left_out: int  # how many problems there were; not all are listed when they are very many


class Problems:
    """What could not be used: all is counted, the first ones are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[str] = []

    def extend(self, problems: Collection[str]) -> None:
        """Add some."""
        self.count += len(problems)
        self._kept += list(problems)[: max(0, MOST_PROBLEMS - len(self._kept))]

    def listed(self) -> tuple[str, ...]:
        """The first ones."""
        return tuple(self._kept)


def read_manifest(manifest: Path, images: Path | None = None) -> tuple[list[Row], list[str]]:
    """The rows of a CSV with `file, level1, level2, …` and optional `product` and `annotator`, and its problems.

    A file is looked for under `images`, else beside the CSV and in `images/` beside it; a row whose file is missing
    is a problem, not a row. Raises `ConfigError` when the CSV itself cannot be used.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or []
            if "file" not in columns:
                raise ConfigError(f"{manifest} has no column 'file' (seen: {', '.join(columns) or 'nothing'}).")
            levels = sorted((int(match[1]), name) for name in columns if (match := _LEVEL.fullmatch(name)))
            folders = [images] if images else [manifest.parent, manifest.parent / "images"]
            return _rows(reader, [name for _, name in levels], [folder.resolve() for folder in folders])
    except FileNotFoundError:
        raise ConfigError(f"There is no file {manifest}.") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ConfigError(f"{manifest} cannot be read as CSV in UTF-8: {error}.") from None


def _rows(
    reader: Iterable[Mapping[str, str]], levels: Sequence[str], folders: Sequence[Path]
) -> tuple[list[Row], list[str]]:
    rows, problems = [], []
    for number, line in enumerate(reader, start=2):
        name = (line.get("file") or "").strip()
        found = next((folder / name for folder in folders if name and _inside(folder, name)), None)
        if found is None:
            problems.append(f"line {number}: no file {name!r} under {folders[-1]}")
            continue
        path: list[str] = []
        for level in levels:
            step = (line.get(level) or "").strip()
            if not step:
                break
            path.append(step)
        rows.append(
            Row(
                found,
                tuple(path) or None,
                (line.get("product") or "").strip() or None,
                (line.get("annotator") or "").strip() or None,
            )
        )
    return rows, problems


def _inside(folder: Path, name: str) -> bool:
    try:
        file = (folder / name).resolve()
        return file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError):
        return False


def import_manifest(
    services: Services,
    manifest: Path,
    project: str,
    *,
    images: Path | None = None,
    advance: Advance = lambda done, total: None,
) -> Imported:
    """Take a catalogue into a project, with its labels where it has some. Raises `ConfigError`."""
    rows, problems = read_manifest(manifest, images)
    if not rows:
        raise ConfigError(f"{manifest} has no row whose file exists.", hint=problems[0] if problems else None)
    record = services.projects.get(project)
    folder = (images or manifest.parent).resolve()
    if record.images_folder not in {None, folder}:
        raise ConfigError(
            f"Project {project} already reads images from {record.images_folder}.", hint="Use another name."
        )
    paths = dict.fromkeys(row.path for row in rows if row.path)
    xml = record.label_config or (write_label_config(paths) if paths else "")
    services.projects.update(project, images_folder=folder, label_config=xml)
    stamp = datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
    files: dict[Path, list[Row]] = {}
    for row in rows:
        files.setdefault(row.file, []).append(row)
    problems += _unknown(paths, label_config(xml)) if paths else []
    annotations = 0
    names = list(files)
    for start in range(0, len(names), CHUNK):
        part = {name: files[name] for name in names[start : start + CHUNK]}
        events = [event for name, group in part.items() for event in _manifest_events(project, name, group, xml, stamp)]
        annotations += sum(1 for event in events if not isinstance(event, TaskSaved))
        services.journal.record(events)
        services.catalog.update_many(
            {image_id(str(name)): _place(project, name, group) for name, group in part.items()}
        )
        advance(min(start + CHUNK, len(names)), len(names))
    labelled = decide_all(services, project) if annotations else 0
    return Imported(project, len(names), annotations, labelled, tuple(problems), len(problems))


def decide_waiting(services: Services, project: str) -> None:
    """Fold the journal, and decide each image of the project that waits for it."""
    services.journal.fold()
    while decide_dirty(services, project, CHUNK):
        pass


def decide_all(services: Services, project: str) -> int:
    """As `decide_waiting`; returns how many images of the project are labelled."""
    decide_waiting(services, project)
    return services.catalog.count(project, labelled=True)


def _manifest_events(project: str, file: Path, rows: Sequence[Row], xml: str, stamp: datetime) -> Iterator[Event]:
    yield TaskSaved(project, str(file), str(file), stamp)
    people: dict[str | None, list[TaxonomyPath]] = {}
    for row in rows:
        if row.path:
            people.setdefault(row.annotator, []).append(row.path)
    if not people:
        return
    tree = label_config(xml).trees[0]
    for annotator, paths in people.items():
        unique = [list(path) for path in dict.fromkeys(paths)]
        value = {"taxonomy": unique} if tree.kind == "taxonomy" else {"choices": [path[-1] for path in unique]}
        region = {"from_name": tree.control, "to_name": tree.to_name, "type": tree.kind, "value": value}
        annotation = {
            "id": f"{file}|{annotator or IMPORTED}",
            "task": str(file),
            "completed_by": annotator or IMPORTED,
            "ground_truth": annotator is None,
            "was_cancelled": False,
            "created_at": stamp.isoformat(),
            "updated_at": stamp.isoformat(),
            "result": [region],
        }
        yield annotation_saved(project, annotation, str(file))


def _place(project: str, file: Path, rows: Sequence[Row]) -> Callable[[ImageDocument], ImageDocument]:
    group = next((row.group for row in rows if row.group), None)

    def change(document: ImageDocument) -> ImageDocument:
        here = document.projects.get(project) or ProjectLabels(uri=str(file))
        here = here.model_copy(update={"group": group or here.group})
        return document.model_copy(
            update={"uri_orig": document.uri_orig or str(file), "projects": {**document.projects, project: here}}
        )

    return change


def _unknown(paths: Iterable[TaxonomyPath], config: LabelConfig) -> list[str]:
    tree = config.trees[0]
    answer = []
    for path in paths:
        if path not in tree:
            near = tree.nearest(path)
            guess = f", did you mean {format_path(near)!r}?" if near else "."
            answer.append(f"{format_path(path)!r} is not in the project's taxonomy{guess}")
    return answer
