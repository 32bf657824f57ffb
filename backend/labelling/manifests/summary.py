"""What a person sees after an import of a manifest: what became of its rows, what changed, and what is in question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from taxonomist.backend.labelling.import_result import MOST_PROBLEMS, ImportResult, ImportSummary, LeftOut
from taxonomist.backend.labelling.manifests.difference import describe
from taxonomist.backend.labelling.manifests.label_configs import questions
from taxonomist.backend.labelling.manifests.plan import ImportPlan
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.annotations import UnknownPath
from taxonomist.taxonomy.names import one_letter_apart, same_but_for_case
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.redaction import redacted
from taxonomist.taxonomy.tree import Tree

_EMPTY_ROW = "empty row"


def import_result(services: Services, plan: ImportPlan, *, dry_run: bool) -> ImportResult:
    """Return what became of the rows of a manifest, after its import or, for a dry run, without it."""
    checked = plan.manifest.checked
    summary = ImportSummary()
    summary.entries = checked.count
    summary.annotations = sum(1 for image in plan.now.values() for paths in image.labels.values() if paths)
    summary.images = {image_id(address) for address in plan.now}
    summary.leave_out(LeftOut(row.reason, f"line {row.line}: {row.problem}") for row in checked.bad)
    summary.leave_out(LeftOut(_EMPTY_ROW, f"line {line}: an empty row") for line in checked.empty)
    if plan.tree:
        _count_unknown(summary, plan, plan.tree)
    result = summary.preview(plan.project) if dry_run else summary.result(services, plan.project)
    if not dry_run:
        summary.keep(services, plan.project, plan.source)
    before = {**plan.state.former, **plan.state.own}
    return replace(
        result,
        source=plan.source,
        taken=len(checked.rows),
        unknown_columns=plan.manifest.unknown_columns,
        questions=tuple(islice(_questions(plan), MOST_PROBLEMS)),
        changes=plan.shown.counts,
        changed=tuple(islice(describe(plan.shown, before, plan.now), MOST_PROBLEMS)),
        kept=plan.shown.kept,
        of_earlier_imports=len(plan.state.unnamed),
        unnamed_images=plan.state.unnamed[:MOST_PROBLEMS],
        dry_run=dry_run,
    )


def _count_unknown(summary: ImportSummary, plan: ImportPlan, tree: Tree) -> None:
    unknown: dict[TaxonomyPath, UnknownPath] = {}
    for address, image in plan.now.items():
        for path in (path for paths in image.labels.values() for path in paths if tree.node_of(path) is None):
            if path not in unknown:
                unknown[path] = UnknownPath(tree.control, path, tree.nearest(path), tree.known_prefix(path))
            summary.count_unknown([unknown[path]], f"line {plan.lines[address]}")


def _questions(plan: ImportPlan) -> Iterator[str]:
    rows = plan.manifest.checked.rows
    for question in questions(plan.used, plan.tree):
        yield f"{question}: is one of them meant?"
    annotators = sorted({row.annotator for row in rows if row.annotator})
    for pairs, difference in ((same_but_for_case, "only in case"), (one_letter_apart, "by one letter")):
        for one, other in pairs(annotators):
            yield f"The annotators {one!r} and {other!r} differ {difference}: are they one person?"
    for one, other in same_but_for_case(dict.fromkeys(row.product for row in rows if row.product)):
        yield f"The products {one!r} and {other!r} differ only in case: are they one product?"
    yield from _other_sources(plan)
    yield from _contradicted_sources(plan)


def _other_sources(plan: ImportPlan) -> Iterator[str]:
    """Yield a question for each manifest that names the same images: this file may be a newer form of it."""
    if not plan.state.images_of or plan.state.own:
        return
    images = {image_id(address) for address in plan.now}
    for source, others in plan.state.images_of.items():
        if both := len(images & others):
            yield (
                f"{both} of the images are in the source {source!r} too: should the project follow this file there "
                f"(--source {source!r})?"
            )


def _contradicted_sources(plan: ImportPlan) -> Iterator[str]:
    """Yield a question for each label of which the same annotator says something else in another source."""
    if not plan.state.others:
        return
    for address, image in plan.now.items():
        for source, annotator, paths in plan.state.others.get(image_id(address), ()):
            said = image.labels.get(annotator, ())
            if said and paths and set(said) != set(paths):
                here, there = (", ".join(map(format_path, some)) for some in (said, paths))
                other = f"{there!r} in the source {source!r}"
                yield f"{redacted(address)} is {here!r} here and {other}: the newer label counts"
