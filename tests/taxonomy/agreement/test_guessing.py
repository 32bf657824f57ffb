"""Who guesses is named, and who does not is not."""

from __future__ import annotations

import pytest

from taxonomist.taxonomy.agreement import AnnotatorRates, ImageAnswers, fit, skills
from tests.taxonomy.agreement.test_dawid_skene import nodes, rates, world
from tests.taxonomy.conftest import FLAT, SMALL


def test_one_who_guesses_is_named() -> None:
    for seed in range(5):
        images = world(seed)
        found = {skill.annotator: skill for skill in skills(images, SMALL, fit(images, SMALL))}
        assert [name for name, skill in found.items() if skill.guesses] == ["guess"]
        assert abs(found["guess"].right - found["guess"].chance) < 0.15
        assert found["a"].images == len(images)


def test_few_images_name_no_one() -> None:
    images = world(3, images=4)
    assert not any(skill.guesses for skill in skills(images, SMALL, fit(images, SMALL)))


def test_of_two_who_disagree_no_one_is_named() -> None:
    images = [ImageAnswers({"a": nodes("A"), "b": nodes("B")}) for _ in range(50)]
    assert skills(images, FLAT, fit(images, FLAT)) == ()


def test_an_image_counts_that_others_annotated_or_whose_truth_is_known() -> None:
    images = [*world(3), ImageAnswers({"a": nodes("D/E")}), ImageAnswers({"b": nodes("D/E")}, nodes("D/E"))]
    found = {skill.annotator: skill.images for skill in skills(images, SMALL, fit(images, SMALL))}
    assert (found["a"], found["b"]) == (150, 151)


def test_no_answer_is_right_where_there_is_no_label() -> None:
    images = [ImageAnswers(dict.fromkeys("abc", frozenset()))] * 20
    assert all(skill.right > 0.9 for skill in skills(images, FLAT, fit(images, FLAT)))


def test_the_own_answer_is_no_evidence() -> None:
    """By the one other, who is right in 90 %, an answer that differs is true in 0.05 of 0.95."""
    images = [ImageAnswers({"a": nodes("A"), "b": nodes("B")})] * 10 + [
        ImageAnswers({"b": nodes("A"), "c": nodes("A")})
    ]
    first = skills(images, FLAT, rates())[0]
    assert first.annotator == "a"
    assert first.right == pytest.approx(0.05 / 0.95, rel=1e-2)


def test_what_is_usual_counts_beside_the_answers_of_the_others() -> None:
    """One image in five has no label; of "b", who names nothing, that is 10 % where there is one, 50 % where not."""
    usual = AnnotatorRates(everyone=((0.8, 0.0, 0.1, 0.1, 0.5, 0.5),), goes_on=(0.8,))
    images = [ImageAnswers({"a": nodes("A"), "b": frozenset()}), ImageAnswers({"b": nodes("A"), "c": nodes("A")})]
    first = skills(images, FLAT, usual)[0]
    named, other, none = 0.8 / 2 * 0.1, 0.8 / 2 * 0.1, 0.2 * 0.5
    assert first.annotator == "a"
    assert first.right == pytest.approx(named / (named + other + none))
