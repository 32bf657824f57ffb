"""Checks of who annotates: whether there are enough annotators for a label, and what Label Studio has imported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from taxonomist.backend.connection.doctor.result import Check, passed, warned
from taxonomist.backend.labelling.missing_annotators import fewer_annotators
from taxonomist.taxonomy.agreement import AgreementPolicy, answers_of, fit, skills
from taxonomist.taxonomy.annotations import Annotation
from taxonomist.taxonomy.tree import Tree


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


def guessing(
    images: Collection[Sequence[Annotation]], tree: Tree, policy: AgreementPolicy, name: str
) -> Iterator[Check]:
    """Yield whether some annotator agrees with the others hardly more often than by chance; nothing for two people.

    Annotators are named as Label Studio numbers them, of an e-mail address only what is before the @.
    """
    answers = [answer for of_image in images if (answer := answers_of(of_image, tree.control, policy)) is not None]
    found = skills(answers, tree, fit(answers, tree))
    if guessers := [skill for skill in found if skill.guesses]:
        who = "; ".join(
            f"annotator {skill.annotator.partition('@')[0]} is right in {skill.right:.0%} of {skill.images} images "
            f"(by chance: {skill.chance:.0%})"
            for skill in guessers
        )
        yield warned(
            name,
            f"at level 1, judged by the answers of the others, {who}",
            "show them what the choices mean; with TAXONOMIST_AGREEMENT=dawid_skene such answers count little",
        )
    elif found:
        yield passed(name, f"none of {len(found)} annotators seems to guess")


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
