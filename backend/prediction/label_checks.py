"""The audit of a project's accepted labels: which of them contradict other images, or a model. Nothing is changed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.labelling.sources import check_source
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy.agreement.doubtful_labels import Doubt, DoubtReason, doubtful_labels, pure_groups
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from taxonomist.taxonomy.labelled_part import labelled_part
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import stops
from taxonomist.training.heads.discriminant.label_probabilities import label_probabilities
from taxonomist.training.near_duplicates import near_duplicates

TAB = "taxonomist: label checks"
"""The tab of Label Studio's Data Manager that shows the findings."""

MOST_IN_TAB = 500
"""Tasks of a tab: each is a condition of its filter."""

_NEAR_SHARE = 0.4  # of the progress
_REASONS: tuple[DoubtReason, ...] = ("views", "near-duplicates", "probability")
_COLUMNS = ("image", "control", "reason", "given", "contradicting", "other_image", "explanation", "task", "id")


@dataclass(frozen=True)
class LabelFinding:
    """An accepted label that may be wrong, of the image `image_id` at the address `image`.

    `given` are its paths and `contradicting` those that contradict it: the label of `other_image`, or what a model
    finds likelier (`other_image` is None). `votes` are the images of the product, or the near-duplicates, that agree
    with the contradicting label, and with the given one. `probability` is that of the given label, and
    `contradicting_probability` that of the other, 0 to 1, by models that did not learn from the image.
    """

    image_id: str
    image: str
    task_id: str | None
    control: str
    reason: DoubtReason
    given: tuple[TaxonomyPath, ...]
    contradicting: tuple[TaxonomyPath, ...]
    other_image: str | None
    votes: tuple[int, int]
    probability: float
    contradicting_probability: float

    @property
    def explanation(self) -> str:
        """Return why the label may be wrong, in one line."""
        if self.reason == "probability":
            return f"model {self.contradicting_probability:.2f}, given {self.probability:.2f}"
        what = "views" if self.reason == "views" else "near-duplicates"
        return f"{self.votes[0]} of the {what} against {self.votes[1]}"


@dataclass(frozen=True)
class Audit:
    """The findings of a project, the most doubtful first, and the number of labelled images that were checked.

    `not_embedded` images were not, since they have no embedding. `notes` say what limits the audit.
    """

    project: str
    images: int
    not_embedded: int
    findings: tuple[LabelFinding, ...]
    notes: tuple[str, ...]


def audit_labels(services: Services, project: str, progress: StepProgress = ignore_steps) -> Audit:
    """Return the accepted labels of a project that may be wrong. Nothing is stored or trained.

    Embeddings are those of the backbone that serves the project. The models are discriminants, whatever kind of head is
    served. Takes time in proportion to the square of the labelled images. Raises `NotFoundError` without an embedded
    image that has a label, and `ConfigError` where the taxonomy is not known.
    """
    progress("labels", 0.0)
    trees = services.label_config(project).trees
    backbone = Predictor(services).backbone(project)
    documents = list(services.catalog.documents(project, labelled=True))
    if not documents:
        raise NotFoundError(f"Project {project} has no accepted label yet.", hint="taxonomist status says why.")
    found: NDArray[np.bool_] = np.zeros(len(documents), np.bool_)
    if backbone is not None:
        found, vectors = services.embeddings(backbone).get([document.id for document in documents])
    if backbone is None or not found.any():
        raise NotFoundError(
            f"No labelled image of project {project} is embedded yet.", hint=f"taxonomist embed --project {project}"
        )
    checked = [document for document, is_found in zip(documents, found, strict=True) if is_found]
    audited = _Audited(project, checked, vectors[found])
    near = near_duplicates(
        [document.id for document in checked],
        audited.vectors,
        services.registry.get(BACKBONE, backbone).backbone_manifest.near_distance,
        lambda share: progress("near-duplicates", _NEAR_SHARE * share),
    )
    findings: list[LabelFinding] = []
    notes: list[str] = []
    for number, tree in enumerate(trees):

        def on_step(share: float, tree: Tree = tree, number: int = number) -> None:
            progress(f"models of {tree.control}", _NEAR_SHARE + (1 - _NEAR_SHARE) * (number + share) / len(trees))

        more, note = audited.findings(tree, near, on_step)
        findings += more
        notes += [note] if note else []
    progress("done", 1.0)
    if missing := len(documents) - len(checked):
        notes.append(f"{missing} labelled images have no embedding: taxonomist embed --project {project}")
    findings.sort(key=lambda finding: _REASONS.index(finding.reason))
    return Audit(project, len(checked), missing, tuple(findings), tuple(notes))


@dataclass(frozen=True)
class _Audited:
    """Labelled images and their embeddings (n, d)."""

    project: str
    documents: Sequence[ImageDocument]
    vectors: NDArray[np.float32]

    def findings(
        self, tree: Tree, near: Mapping[str, str], on_step: Callable[[float], None]
    ) -> tuple[Iterator[LabelFinding], str | None]:
        """Return the findings of a control, and a note on what limits them."""
        labels = [
            {tree.known_prefix(path) for path in document.projects[self.project].paths(tree.control)} - {()}
            for document in self.documents
        ]
        rows = [row for row, paths in enumerate(labels) if paths]
        if not rows:
            return iter(()), None
        given = [sorted(labels[row]) for row in rows]
        documents = [self.documents[row] for row in rows]
        known = [document.product(self.project) for document in documents]
        products = pure_groups(tree, given, known)
        alike = [near.get(document.id) for document in documents]
        folds = [
            product or other or document.id for product, other, document in zip(products, alike, documents, strict=True)
        ]
        part = labelled_part(tree, given)
        probabilities = label_probabilities(self.vectors[rows], stops(part, given), folds, part, on_step)
        doubts = doubtful_labels(part, given, probabilities, products, alike)
        return (self._finding(tree, documents, given, doubt) for doubt in doubts), _note(tree, known, products)

    def _finding(
        self,
        tree: Tree,
        documents: Sequence[ImageDocument],
        given: Sequence[Sequence[TaxonomyPath]],
        doubt: Doubt,
    ) -> LabelFinding:
        document = documents[doubt.row]
        entry = document.projects[self.project]
        return LabelFinding(
            document.id,
            entry.uri,
            entry.task_id,
            tree.control,
            doubt.reason,
            tuple(given[doubt.row]),
            doubt.contradicting,
            None if doubt.other is None else documents[doubt.other].projects[self.project].uri,
            doubt.votes,
            doubt.probability,
            doubt.contradicting_probability,
        )


def _note(tree: Tree, known: Sequence[str | None], products: Sequence[Hashable | None]) -> str | None:
    if not any(known):
        return f"{tree.control}: no product is known, so views cannot be compared."
    if not any(products):
        return f"{tree.control}: images of one product or report differ too often; they are not compared."
    return None


def write_findings(file: Path, findings: Iterable[LabelFinding]) -> None:
    """Write the findings as CSV; a file that is there is replaced in one step. Raises `StorageError`.

    Several paths of a label are separated by "; ". A text that a spreadsheet would run as a formula begins with "'".
    """
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(_COLUMNS)
    for finding in findings:
        row = (
            finding.image,
            finding.control,
            finding.reason,
            format_paths(finding.given),
            format_paths(finding.contradicting),
            finding.other_image or "",
            finding.explanation,
            finding.task_id or "",
            finding.image_id,
        )
        lines.writerow(for_spreadsheets(row))
    with storage_errors(file):
        write_atomically(file, text.getvalue().encode("utf-8", "surrogatepass"))


def format_paths(paths: Iterable[TaxonomyPath]) -> str:
    """Return the paths of a label in readable form."""
    return "; ".join(map(format_path, paths))


def show_in_label_studio(services: Services, project: str, findings: Iterable[LabelFinding]) -> int:
    """Make a tab in Label Studio's Data Manager that shows the tasks of the findings, and return how many these are.

    The tab of an earlier audit is replaced; tasks, labels and predictions stay as they are. At most `MOST_IN_TAB` tasks
    are shown. Raises `ConfigError` where no finding has a task, and `LabelStudioError`.
    """
    tasks = [int(finding.task_id) for finding in findings if finding.task_id and finding.task_id.isdecimal()]
    shown = list(dict.fromkeys(tasks))[:MOST_IN_TAB]
    if not shown:
        raise ConfigError("No finding has a task in Label Studio.", hint="Use --csv for images that were imported.")
    with services.open_label_studio(project) as client:
        check_source(services, client.project(project), client.url)
        client.show_tasks(project, TAB, shown)
    return len(shown)
