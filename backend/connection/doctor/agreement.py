"""Checks of the agreement of a project's annotators, which limits every model that learns from their labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from taxonomist.backend.connection.doctor import annotators
from taxonomist.backend.connection.doctor.result import Check, passed, warned
from taxonomist.backend.labelling.acceptance import prefilled
from taxonomist.backend.labelling.image_decision import read_annotations
from taxonomist.backend.labelling.manifests.reading.rows import IMPORT_ANNOTATOR
from taxonomist.backend.services import Services
from taxonomist.storage.journal import AnnotationRecord
from taxonomist.taxonomy.agreement import LevelAgreement, agreement_report
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.tree import Tree

TENTATIVE = 0.667  # below it, data permit no conclusions: Krippendorff, Content Analysis (2004), section 11.4


def checks(services: Services, project: str) -> Iterator[Check]:
    """Yield the checks of the annotators, then per control the agreement of each level that two people annotated.

    The agreement is that of pairs, and Krippendorff's alpha; that of pre-filled tasks is shown apart. Annotators who
    guess are named.
    """
    try:
        config = services.label_config(project)
    except ConfigError:
        return  # another check reports it
    records: dict[str, list[AnnotationRecord]] = defaultdict(list)
    saved: list[Mapping[str, Any]] = []
    for record in services.journal.annotations(project):
        records[record.image_id].append(record)
        if record.data.get("completed_by") != IMPORT_ANNOTATOR:  # a manifest's own labels are meant as ground truth
            saved.append({name: record.data.get(name) for name in ("ground_truth", "lead_time")})
    read = [read_annotations(of_image, config) for of_image in records.values()]
    images = [[annotation for _, annotation in of_image] for of_image in read]
    answered = prefilled(services, project, config, chain.from_iterable(records.values()))
    yield from annotators.enough(images, services.project_settings(project).annotators, project)
    yield from annotators.imported(saved)
    for tree in config.trees:
        levels = [level for level in agreement_report(images, tree) if level.images]
        of_control = "" if len(config.trees) == 1 else f" on {tree.control}"
        name = f"agreement{of_control}"
        if not levels:
            yield passed(name, "no image was labelled by two people yet")
        elif math.isfinite(levels[0].alpha) and levels[0].alpha < TENTATIVE:
            fix = "compare what annotators understand by the choices; raise TAXONOMIST_MIN_ANNOTATORS meanwhile"
            yield warned(name, _line(levels), fix)
        else:
            yield passed(name, _line(levels))
        yield from _by_prefilling(read, answered, tree, f"agreement of pre-filled tasks{of_control}")
        yield from annotators.guessing(images, tree, services.agreement(project), f"guessing{of_control}")
    yield from _decided_anew(services, project)


def _by_prefilling(
    images: Sequence[Sequence[tuple[AnnotationRecord, Annotation]]],
    answered: Collection[tuple[str, str, str]],
    tree: Tree,
    name: str,
) -> Iterator[Check]:
    """Yield the agreement of the annotations that answered a suggestion, beside that of the others; nothing where none
    did. People who see a suggestion agree with it, and so with each other, more often."""
    groups: dict[bool, list[list[Annotation]]] = {True: [], False: []}
    for of_image in images:
        parts: dict[bool, list[Annotation]] = {True: [], False: []}
        for record, annotation in of_image:
            parts[(record.source, record.annotation_id, tree.control) in answered].append(annotation)
        for is_prefilled, part in parts.items():
            groups[is_prefilled].append(part)
    if any(groups[True]):
        lines = []
        for word, group in (("pre-filled", groups[True]), ("unfilled", groups[False])):
            levels = [level for level in agreement_report(group, tree) if level.images]
            lines.append(f"{word}: {_line(levels) or 'no image was labelled by two people yet'}")
        yield passed(name, "; ".join(lines))


def _decided_anew(services: Services, project: str) -> Iterator[Check]:
    """Yield when all labels were decided again, and how many changed; nothing where that was never done."""
    done = services.projects.get(project).decided_anew
    if done is not None:
        when = done.at.astimezone().strftime("%Y-%m-%d %H:%M")
        yield passed("labels decided again", f"{when}: {done.changed} of {done.images} images got another label")


def _line(levels: list[LevelAgreement]) -> str:
    return "; ".join(
        f"level {level.level}: alpha {_figure(level.alpha)}, {level.pairwise:.0%} of pairs, {level.images} images"
        for level in levels
    )


def _figure(alpha: float) -> str:
    return f"{alpha:.2f}" if math.isfinite(alpha) else "undefined"
