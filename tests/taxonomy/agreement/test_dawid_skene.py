"""Dawid and Skene's model on a tree: worked out by hand where there is little, by simulation where there is much."""

from __future__ import annotations

import random

import pytest

from taxonomist.taxonomy.agreement import AgreementPolicy, ImageAnswers, Reason, Weights, answers_of, decide, fit
from taxonomist.taxonomy.agreement.answer_table import Comparer, Outcome
from taxonomist.taxonomy.agreement.dawid_skene import AnnotatorRates, probabilities
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from tests.taxonomy.conftest import FLAT, SMALL, said, unknown

RIGHT = (0.9, 0.0, 0.1, 0.0, 0.5, 0.5)
GUESSES = (0.5, 0.0, 0.5, 0.0, 0.5, 0.5)


def nodes(*paths: str) -> frozenset[TaxonomyPath]:
    return frozenset(node for path in paths for node in prefixes(tuple(path.split("/"))))


def rates(**people: tuple[float, ...]) -> AnnotatorRates:
    """Return rates on the tree with one level of two nodes."""
    return AnnotatorRates(everyone=(RIGHT,), goes_on=(1.0,), people={name: (own,) for name, own in people.items()})


def test_probabilities_are_those_of_bayes() -> None:
    """Two people who are right in 90 % name A, one names B; each wrong answer is one of 2 nodes."""
    answers = {"a": nodes("A"), "b": nodes("A"), "c": nodes("B")}
    found = probabilities(answers, FLAT, rates())
    first, second = 0.9 * 0.9 * (0.1 / 2), (0.1 / 2) * (0.1 / 2) * 0.9
    assert found[("A",)] == pytest.approx(first / (first + second), rel=1e-3)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def test_one_who_guesses_says_little() -> None:
    answers = {"a": nodes("A"), "b": nodes("B"), "c": nodes("B")}
    found = probabilities(answers, FLAT, rates(b=GUESSES, c=GUESSES))
    first, second = 0.9 * 0.25**2, (0.1 / 2) * 0.5**2
    assert found[("A",)] == pytest.approx(first / (first + second), rel=1e-3)


@pytest.mark.parametrize(
    ("answer", "truth", "outcomes"),
    [
        ("A/B/X", "A/B/X", (Outcome.RIGHT, Outcome.RIGHT, Outcome.RIGHT)),
        ("A/B/Y", "A/B/X", (Outcome.RIGHT, Outcome.RIGHT, Outcome.WRONG)),
        ("A/B", "A/B/X", (Outcome.RIGHT, Outcome.RIGHT, Outcome.STOPPED)),
        ("A/B/X", "A", (Outcome.RIGHT, Outcome.DEEPER)),
        ("A", "A", (Outcome.RIGHT, Outcome.ENDED)),
        ("D/E", "A/B/X", (Outcome.WRONG,)),
        ("D/E", "A/B/X D/E", (Outcome.PARTLY, Outcome.RIGHT)),
        ("A/B/X A/C", "A/B/X", (Outcome.RIGHT, Outcome.PARTLY, Outcome.RIGHT)),
    ],
)
def test_answers_are_compared_below_what_they_share(answer: str, truth: str, outcomes: tuple[Outcome, ...]) -> None:
    found, _ = Comparer(SMALL).compare(nodes(*answer.split()), nodes(*truth.split()))
    assert tuple(outcome for outcome in found if outcome in set(Outcome)) == outcomes


def world(seed: int, images: int = 150) -> list[ImageAnswers]:
    """Return answers of three careful people and of "guess", who names any path."""
    draw = random.Random(seed)
    leaves = ["A/B/X", "A/B/Y", "A/C", "D/E"]
    found = []
    for _ in range(images):
        truth = draw.choice(leaves)
        careful = {name: truth if draw.random() < 0.85 else draw.choice(leaves) for name in ("a", "b", "c")}
        found.append(
            ImageAnswers({name: nodes(path) for name, path in {**careful, "guess": draw.choice(leaves)}.items()})
        )
    return found


def test_rates_follow_from_the_answers_alone() -> None:
    images = world(1)
    first = fit(images, SMALL)
    assert fit(images[::-1], SMALL) == first
    right = {name: own[0][Outcome.RIGHT] for name, own in first.people.items()}
    assert max(right["guess"] + 0.2, 0.75) < min(right["a"], right["b"], right["c"])


def test_images_with_more_or_fewer_annotators_are_learned_from_together() -> None:
    alone, both = {"a": nodes("A")}, {"a": nodes("A"), "b": nodes("A")}
    assert set(fit([ImageAnswers(both), ImageAnswers(alone)], FLAT).people) == {"a", "b"}


def test_known_truths_count() -> None:
    """Two people never agree; ground truth says which of them is right."""
    answers = {"a": nodes("A"), "b": nodes("B")}
    known = fit([ImageAnswers(answers, nodes("B"))] * 20, FLAT)
    assert known.people["b"][0][Outcome.RIGHT] > 0.9 > 0.2 > known.people["a"][0][Outcome.RIGHT]


def test_without_answers_all_weigh_the_same() -> None:
    empty = fit([], SMALL)
    assert not empty.people
    assert len(empty.everyone) == SMALL.depth


def test_weights_decide_where_numbers_do_not() -> None:
    weights = Weights(SMALL, fit(world(2), SMALL))
    people = [said("a", "A/B/X"), said("b", "A/B/X"), said("guess", "D/E"), said("stranger", "A/C")]
    verdict = decide(people, "media", AgreementPolicy(), weights)
    assert verdict.accepted == (("A", "B", "X"),)
    assert decide(people, "media", AgreementPolicy()).accepted == (("A",),)


def test_one_person_alone_makes_no_label() -> None:
    """However reliable: `min_annotators` people must name a path."""
    sure = tuple(max(0.0, min(1.0, value)) for value in (0.999, 0.0, 0.001, 0.0, 0.5, 0.5))
    weights = Weights(FLAT, rates(a=sure, b=GUESSES))
    annotations = [said("a", "A"), said("b", "B")]
    assert decide(annotations, "media", AgreementPolicy(), weights).reason is Reason.NO_AGREEMENT
    assert decide(annotations, "media", AgreementPolicy(min_annotators=1), weights).accepted == (("A",),)


@pytest.mark.parametrize(("right", "accepted"), [(0.9, (("A",),)), (0.8, ())])
def test_a_label_has_a_probability_of_nine_tenths(right: float, accepted: tuple[TaxonomyPath, ...]) -> None:
    """Of three people, one disagrees: right in 90 %, the two make 0.95 of A, and right in 80 %, 0.89."""
    own = (right, 0.0, 1 - right, 0.0, 0.5, 0.5)
    people = [said("a", "A"), said("b", "A"), said("c", "B")]
    assert decide(people, "media", AgreementPolicy(), Weights(FLAT, rates(a=own, b=own, c=own))).accepted == accepted


def test_an_unknown_path_is_no_answer() -> None:
    people = [said("a", "A/C"), said("b", unknown=(unknown("Q"),))]
    answers = answers_of(people, "media", AgreementPolicy())
    assert answers is not None
    assert set(answers.answers) == {"a"}
    verdict = decide(people, "media", AgreementPolicy(), Weights(SMALL, fit([], SMALL)))
    assert verdict.reason is Reason.UNKNOWN_PATHS


def test_a_stranger_has_the_rates_of_all() -> None:
    learned = fit([ImageAnswers(dict.fromkeys("abc", nodes("A")))] * 40, FLAT)
    assert learned.everyone[0][Outcome.RIGHT] > 0.95 > fit([], FLAT).everyone[0][Outcome.RIGHT]


def test_skips_may_vote_for_a_path_that_the_tree_does_not_have() -> None:
    """With two taxonomies, `skips_as` is a path of one of them."""
    policy = AgreementPolicy(skips_as=("Sort out", "Blurred"))
    people = [said("a", "A/C"), said("b", "A/C"), said("c", skipped=True)]
    answers = answers_of(people, "media", policy)
    assert answers is not None
    learned = fit([answers], SMALL)
    assert set(learned.people) == {"a", "b", "c"}
    assert decide(people, "media", policy, Weights(SMALL, learned)).accepted == (("A", "C"),)


def test_no_answer_can_be_probable() -> None:
    weights = Weights(SMALL, fit([ImageAnswers({"a": frozenset(), "b": frozenset()})] * 30, SMALL))
    verdict = decide([said("a"), said("b")], "media", AgreementPolicy(), weights)
    assert (verdict.accepted, verdict.reason) == ((), Reason.EMPTY)


def test_ground_truth_decides_alone_all_the_same() -> None:
    star = said("c", "A/C", ground_truth=True)
    people = [said("a", "D/E"), said("b", "D/E"), star]
    assert decide(people, "media", AgreementPolicy(), Weights(SMALL, fit([], SMALL))).accepted == (("A", "C"),)
    answers = answers_of(people, "media", AgreementPolicy())
    assert answers is not None
    assert answers.truth == nodes("A/C")
