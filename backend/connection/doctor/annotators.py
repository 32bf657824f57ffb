"""Checks of who annotates: whether there are enough annotators for a label, and what Label Studio has imported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from taxonomist.backend.connection.doctor.check import Check, passed, warned
from taxonomist.backend.labelling.missing_annotators import fewer_annotators
from taxonomist.taxonomy.annotations import Annotation


def enough(images: Collection[Sequence[Annotation]], needed: int, project: str) -> Iterator[Check]:
    """Yield whether some image has the number of annotators that a label needs; nothing without annotations.

    `images` has the annotations of each image. What is reviewed or ground truth is a label without others.
    Annotations that the model made count for no annotator.
    """
    images = [of_people for annotations in images if (of_people := [a for a in annotations if not a.by_model])]
    if not images:
        return
    people = {annotation.annotator for annotations in images for annotation in annotations}
    open_images = [annotations for annotations in images if not any(a.ground_truth or a.reviewed for a in annotations)]
    most = max((len({a.annotator for a in annotations}) for annotations in open_images), default=needed)
    if most >= needed:
        yield passed("annotators", f"{len(people)}; a label needs {needed} who agree")
        return
    who = "one person has annotated" if len(people) == 1 else f"no more than {most} people have annotated each of"
    count = "1 image" if len(open_images) == 1 else f"{len(open_images)} images"
    yield warned(
        "annotators",
        f"{who} {count}, and a label needs {needed} annotators who agree",
        fewer_annotators(project),
    )


def imported(annotations: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Yield whether Label Studio has marked imported annotations as ground truth; nothing where it has not.

    It does so with every annotation in an import that does not say otherwise. An annotation that a person has made has
    the time that it took (`lead_time`).
    """
    marked = sum(1 for raw in annotations if raw.get("ground_truth") and raw.get("lead_time") is None)
    if marked:
        yield warned(
            "ground truth",
            f"{marked} of {len(annotations)} annotations were imported into Label Studio, which has marked them as "
            "ground truth: each decides its image alone",
            'import them with "ground_truth": false if they are opinions, or take the star away in Label Studio',
        )
