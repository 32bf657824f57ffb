"""Tasks and annotations from a JSON export of Label Studio, of any size: the file is read as a stream, several times.

The first pass checks the file as a whole, so that a truncated file changes nothing. Where the source is known, the
second compares it with what is kept, so that a file of another Label Studio changes nothing. The last imports the
tasks. Tasks, annotations and regions that cannot be used are reported and do not affect the others. A folder is that of
a target storage: each of its files holds an annotation.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.labelling.exports.files import ExportFiles
from taxonomist.backend.labelling.exports.forms import check_csv
from taxonomist.backend.labelling.exports.importing import ExportImport
from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.manifests.label_configs import read_config
from taxonomist.backend.labelling.sources import file_source
from taxonomist.backend.services import Services
from taxonomist.progress import CountProgress, ignore_counts
from taxonomist.taxonomy.errors import ConfigError


def is_export(file: Path) -> bool:
    """Return whether a file or folder is an export as JSON, or meant as one, and not a manifest.

    The files of a target storage have no suffix. Raises `ConfigError` for the export CSV of Label Studio.
    """
    if file.is_dir() or file.suffix.lower() in {".json", ".zip"}:
        return True
    try:
        with file.open("rb") as content:
            start = content.read(4096)
    except OSError:
        return False  # the reader of manifests says what is wrong
    if start.lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:1] in {b"[", b"{"} and file.suffix.lower() not in {".csv", ".tsv"}:
        return True
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    header = start.decode("utf-16" if is_utf16 else "utf-8-sig", "replace").partition("\n")[0]
    check_csv(file, [name.strip(' "\r') for name in re.split("[,;\t]", header)])
    return False


def import_export(
    services: Services,
    export: Path,
    *,
    project: str | None = None,
    config: Path | None = None,
    source: str | None = None,
    progress: CountProgress = ignore_counts,
) -> ImportResult:
    """Import the tasks and annotations of a Label Studio JSON export; few tasks are in memory together.

    `source` names what the file comes from, by default the file's name: ids of tasks and annotations count within it.
    Raises `ConfigError` before anything is imported, and when no task can be used.
    """
    files = ExportFiles(export)
    project = project or files.project()
    services.projects.get(project)  # refuses a name that no project may have, before a file is called by it
    with FileLock(services.home / f"import-{project}.lock"):  # what a file changes is compared with what is kept
        return _import_files(services, export, files, project, config, source, progress)


def _import_files(
    services: Services,
    export: Path,
    files: ExportFiles,
    project: str,
    config: Path | None,
    source: str | None,
    progress: CountProgress,
) -> ImportResult:
    xml = _read_config(services, project, config)
    source = file_source(export.resolve().name if source is None else source)
    if any(source in folder.sources for folder in services.projects.get(project).image_folders):
        raise ConfigError(f"The source {source!r} of project {project} is a manifest.", hint="Give another --source.")
    saved_at = datetime.fromtimestamp(export.stat().st_mtime, UTC)
    known_config = services.projects.get(project).read_config(xml)
    earlier = services.projects.get(project).imports.get(source)
    within_tasks = files.ids_within_tasks or (earlier is not None and earlier.ids_within_tasks)
    running = ExportImport(services.journal, project, source, files, known_config, saved_at, within_tasks)
    running.check_source()
    for is_used in running.chunks():
        if is_used and config is not None:  # an import that can use nothing changes nothing
            services.projects.update(project, label_config=xml)
        decide_all_dirty(services, project)  # after each chunk, so that the number of dirty images stays bounded
        progress(running.summary.entries, files.entries)
    decide_all_dirty(services, project)
    if config is not None and running.summary.images:
        decide_anew(services, project)
    result = replace(running.summary.result(services, project), source=source, notes=known_config.notes)
    if result.entries and not result.images:
        raise ConfigError(f"{export}: none of its {result.entries} tasks can be imported. {result.problems[0]}")
    running.summary.keep(services, project, source, ids_within_tasks=within_tasks)
    return result


def _read_config(services: Services, project: str, config: Path | None) -> str:
    """Return the labelling config in the given file, else that of the project. Raises `ConfigError`."""
    if config is not None:
        return read_config(config)
    if xml := services.projects.get(project).label_config:
        return xml
    raise ConfigError(
        f"The labelling config of project {project} is unknown.",
        hint="Give --config, or run `taxonomist connect` first.",
    )
