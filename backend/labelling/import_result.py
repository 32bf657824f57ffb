"""The summary of an import: what became of its input. Text and `--json` are made of the same value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import LastImport, ProjectRecord, lost_annotations
from taxonomist.taxonomy.agreement import Reason
from taxonomist.taxonomy.annotations import UnknownPath
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import format_path

MOST_PROBLEMS = 1000
_LONGEST_PROBLEM = 1000  # characters
UNKNOWN_NAME = "name that the taxonomy does not have"
NOT_STORED = "task or annotation that cannot be stored"
_CHUNK = 500  # documents that are read together


@dataclass(frozen=True)
class ImportResult:
    """What became of the input of an import.

    `entries` are the tasks of an export or the rows of a manifest. `images` are the different images of those that were
    taken: `accepted` of them have an accepted label now, `waiting` wait for a second opinion, and `unlabelled` has the
    others by the reason why they have no label. `annotations` were taken, new or known; `skipped` of them
    say that a person skipped the task. `labelled` are the labelled images of the whole project. `notes` say what of
    the labelling config is not learned.

    `left_out_reasons` counts by reason what was left out: tasks, rows, annotations, regions and names. `left_out` is
    their sum, and `problems` has a line for each of the first `MOST_PROBLEMS`. `unknown_names` counts the annotations
    by the path that the taxonomy does not have.

    `source` names what the file comes from. Only manifests have the rest. `taken` are the rows that were taken: with
    the rows left out they add up to `entries`. `unknown_columns` are not used. `questions` are names that may be one,
    and labels that two sources give differently. `changes` counts what is new, changed and withdrawn in the source,
    `changed` has a line for each of the first `MOST_PROBLEMS`, and `kept` counts what stays because rows were left out.
    `of_earlier_imports` counts the images of manifests imported before sources had names that the file does not name:
    they stay, and `unnamed_images` has the addresses of the first `MOST_PROBLEMS`. A `dry_run` stored nothing, so it
    says nothing about accepted labels.
    """

    project: str
    entries: int
    images: int
    annotations: int
    accepted: int
    waiting: int
    unlabelled: Mapping[str, int]
    labelled: int
    left_out: int
    left_out_reasons: Mapping[str, int]
    unknown_names: Mapping[str, int]
    problems: tuple[str, ...]
    source: str = ""
    taken: int | None = None
    unknown_columns: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    changes: Mapping[str, int] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    kept: int = 0
    of_earlier_imports: int = 0
    unnamed_images: tuple[str, ...] = ()
    dry_run: bool = False
    skipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A part of the input that was not taken: its `reason`, to be counted, and the `problem` as a line of text."""

    reason: str
    problem: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", shorten(self.problem, _LONGEST_PROBLEM))


class ImportSummary:
    """Counts an import while it runs. All problems are counted; the text of the first `MOST_PROBLEMS` is kept."""

    def __init__(self) -> None:
        self.entries = 0
        self.annotations = 0
        self.skipped = 0
        self.images: set[str] = set()
        self._reasons: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._problems: list[str] = []

    def leave_out(self, parts: Iterable[LeftOut]) -> None:
        """Count parts of the input that were not taken."""
        for part in parts:
            self._reasons[part.reason] += 1
            if len(self._problems) < MOST_PROBLEMS:
                self._problems.append(part.problem)

    def count_unknown(self, paths: Collection[UnknownPath], source: str) -> None:
        """Count paths of one annotation that the taxonomy does not have; `source` names the annotation's task."""
        self._unknown.update(shorten(format_path(path.path)) for path in paths)
        self.leave_out(LeftOut(UNKNOWN_NAME, f"{source}: {path}") for path in paths)

    def result(self, services: Services, project: str) -> ImportResult:
        """Return the summary, after the labels of the images were decided."""
        reasons = self._outcomes(services, project)
        accepted = reasons.pop(None, 0)
        waiting = reasons.pop(Reason.TOO_FEW_ANNOTATORS, 0)
        return replace(
            self.preview(project),
            accepted=accepted,
            waiting=waiting,
            unlabelled={str(reason): count for reason, count in reasons.most_common()},
            labelled=services.catalog.count(project, labelled=True),
        )

    def keep(self, services: Services, project: str, source: str, *, ids_within_tasks: bool = False) -> None:
        """Keep what `taxonomist status` shows of the import, and how the source counts the ids of annotations."""
        left_out = dict(self._reasons.most_common())
        kept = LastImport(
            at=datetime.now(UTC),
            entries=self.entries,
            annotations=self.annotations,
            left_out=left_out,
            ids_within_tasks=ids_within_tasks,
        )
        keep_last_import(services, project, source, kept)

    def preview(self, project: str) -> ImportResult:
        """Return the summary of an import that stored nothing, so that no label was decided."""
        return ImportResult(
            project=project,
            entries=self.entries,
            images=len(self.images),
            annotations=self.annotations,
            skipped=self.skipped,
            accepted=0,
            waiting=0,
            unlabelled={},
            labelled=0,
            left_out=self._reasons.total(),
            left_out_reasons=dict(self._reasons.most_common()),
            unknown_names=dict(self._unknown.most_common()),
            problems=tuple(self._problems),
        )

    def _outcomes(self, services: Services, project: str) -> Counter[str | None]:
        """Return the number of images by the reason why they have no label, None for those with a label."""
        reasons: Counter[str | None] = Counter()
        images = sorted(self.images)
        for start in range(0, len(images), _CHUNK):
            ids = images[start : start + _CHUNK]
            documents = services.catalog.get_many(ids)
            for image in ids:
                labels = documents[image].projects.get(project) if image in documents else None
                labelled = labels is not None and labels.labelled
                reason = labels.reason if labels else None
                reasons[None if labelled else reason or Reason.NOT_ANNOTATED] += 1
        return reasons


def keep_last_import(services: Services, project: str, source: str, summary: LastImport) -> None:
    """Keep in the project's record what the last import from a source left out, for `taxonomist status`.

    The same import again changes nothing, not even the time.
    """

    def kept(record: ProjectRecord) -> Mapping[str, object]:
        known = record.imports.get(source)
        lost = tuple(words for words in record.lost if words != lost_annotations(source))
        if lost == record.lost and known and summary == known.model_copy(update={"at": summary.at}):
            return {}
        return {"imports": {**record.imports, source: summary}, "lost": lost}

    services.projects.change(project, kept)
