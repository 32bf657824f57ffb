"""Checks of the agreement of a project's annotators, which limits every model that learns from their labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from taxonomist.backend.connection.doctor import annotators
from taxonomist.backend.connection.doctor.check import Check, passed, warned
from taxonomist.backend.labelling.image_decision import read_annotations
from taxonomist.backend.labelling.manifests.reading.rows import IMPORT_ANNOTATOR
from taxonomist.backend.services import Services
from taxonomist.storage.journal import AnnotationRecord
from taxonomist.taxonomy.agreement import LevelAgreement, agreement_report
from taxonomist.taxonomy.errors import ConfigError

TENTATIVE = 0.667  # below it, data permit no conclusions: Krippendorff, Content Analysis (2004), section 11.4


def checks(services: Services, project: str) -> Iterator[Check]:
    """Yield the checks of the annotators, then one per control: agreement of each level that two people annotated.

    The agreement is that of pairs, and Krippendorff's alpha.
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
    images = [[found for _, found in read_annotations(of_image, config)] for of_image in records.values()]
    yield from annotators.enough(images, services.project_settings(project).annotators, project)
    yield from annotators.imported(saved)
    for tree in config.trees:
        levels = [level for level in agreement_report(images, tree) if level.images]
        name = "agreement" if len(config.trees) == 1 else f"agreement on {tree.control}"
        if not levels:
            yield passed(name, "no image was labelled by two people yet")
        elif math.isfinite(levels[0].alpha) and levels[0].alpha < TENTATIVE:
            fix = "compare what annotators understand by the choices; raise TAXONOMIST_MIN_ANNOTATORS meanwhile"
            yield warned(name, _line(levels), fix)
        else:
            yield passed(name, _line(levels))


def _line(levels: list[LevelAgreement]) -> str:
    return "; ".join(
        f"level {level.level}: alpha {_figure(level.alpha)}, {level.pairwise:.0%} of pairs, {level.images} images"
        for level in levels
    )


def _figure(alpha: float) -> str:
    return f"{alpha:.2f}" if math.isfinite(alpha) else "undefined"
