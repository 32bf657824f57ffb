from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.taxonomy.agreement import AgreementPolicy, Reason, Verdict, agreement_report, decide
from taxonomist.taxonomy.annotations import Annotation, UnreadableRegion
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.paths import format_path, prefixes
from tests.taxonomy.conftest import SMALL, annotations_of, said, unknown

DEFAULT = AgreementPolicy()
HALF = AgreementPolicy(min_agreement=0.5)


def verdict(*annotations: Annotation, policy: AgreementPolicy = DEFAULT) -> Verdict:
    return decide(annotations, "media", policy)


def accepted(*people: tuple[str, ...], policy: AgreementPolicy = DEFAULT) -> list[str]:
    """Return the accepted labels when each person chooses these paths, written "A/B"."""
    annotations = [said(f"person {n}", *paths) for n, paths in enumerate(people)]
    return ["/".join(path) for path in verdict(*annotations, policy=policy).accepted]


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([("A/B/X",), ("A/B/X",), ("A/B/X",)], ["A/B/X"]),
        ([("A/B/X",), ("A/B/X",), ("D/E",)], ["A/B/X"]),  # 2 of 3
        ([("A/B/X",), ("A/B/Y",), ("D/E",)], ["A/B"]),  # the leaf 1 of 3, its parent 2 of 3
        ([("A/B/X",), ("A/C",)], ["A"]),
        ([("A/B/X",), ("D",)], []),
        ([("A/B",), ("A/B",), ("A/B/X",)], ["A/B"]),
        # who stops early names no child: X has 2 of 4
        ([("A/B/X",), ("A/B/X",), ("A/B",), ("A/B",)], ["A/B"]),
        # several paths, each judged alone and in any order
        ([("A/C", "D/E"), ("D/E", "A/C"), ("A/C",)], ["A/C", "D/E"]),
        ([("A/B/X", "A/C"), ("A/B/Y", "A/C")], ["A/B", "A/C"]),
        ([("A/B/X", "A/B/Y"), ("A/B/Y", "A/C"), ("A/C", "A/B/X")], ["A/B/X", "A/B/Y", "A/C"]),
        ([("A", "A/B", "A/B/X"), ("A/B/X",)], ["A/B/X"]),  # a path and its beginnings are one label
        # one person saved the task without choosing a path: annotated, without a label
        ([("A/C",), ("A/C",), ()], ["A/C"]),
        ([("A/C",), ()], []),
    ],
)
def test_default_policy(people: list[tuple[str, ...]], expected: list[str]) -> None:
    assert accepted(*people) == expected
    assert accepted(*reversed(people)) == expected


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([("A/B/X",), ("A/B/Y",)], ["A/B"]),  # a tie: no person chose both
        ([("A/C",), ("D",)], []),
        ([("A/C",), ("A/C",), ("A/B",), ("D",), ("A/B",)], ["A"]),  # 2 : 2 of 5 is below a half anyway
        ([("A/B/X", "A/B/Y"), ("A/B/X",), ("A/B/Y",), ("A/C",)], ["A/B/X", "A/B/Y"]),  # one person said both
        ([("A/B/X", "D"), ("A/B/Y",), ("D/E",), ("A/C",)], ["A/B", "D"]),
    ],
)
def test_ties_go_to_the_parent(people: list[tuple[str, ...]], expected: list[str]) -> None:
    assert accepted(*people, policy=HALF) == expected


def test_more_votes_win_where_both_have_enough() -> None:
    people = [("A/C",), ("A/C",), ("A/C",), ("A/B",), ("A/B",)]
    assert accepted(*people, policy=AgreementPolicy(min_agreement=0.4)) == ["A/C"]


def test_min_annotators_counts_those_who_annotated() -> None:
    three = AgreementPolicy(min_annotators=3)
    assert accepted(("A/C",), ("A/C",), ("D",), policy=three) == ["A/C"]
    result = verdict(said("anna", "A/C"), said("bert", "A/C"), policy=three)
    assert (result.reason, result.annotators) == (Reason.TOO_FEW_ANNOTATORS, 2)
    assert result.detail == "Annotated by 2; 3 are needed."
    assert accepted(("A/C",), policy=AgreementPolicy(min_annotators=1)) == ["A/C"]


def test_the_newest_annotation_of_a_person_counts() -> None:
    result = verdict(said("anna", "D", minutes=5), said("anna", "A/C", minutes=9), said("bert", "A/C"))
    assert (result.accepted, result.annotators) == ((("A", "C"),), 2)
    result = verdict(said("anna", "A/C"), said("anna", skipped=True, minutes=9), said("bert", "A/C"))
    assert (result.reason, result.annotators) == (Reason.TOO_FEW_ANNOTATORS, 1)


def test_skips_are_votes_only_where_the_policy_says_so() -> None:
    people = [said("anna", "D"), said("bert", skipped=True), said("cleo", "A/C", skipped=True)]
    assert verdict(*people).reason == Reason.TOO_FEW_ANNOTATORS
    voting = AgreementPolicy(skips_as=("D", "E"))
    result = verdict(*people, policy=voting)
    assert (result.accepted, result.annotators) == ((("D", "E"),), 3)
    assert verdict(*people[1:]).reason == Reason.SKIPPED
    assert verdict(*people[1:], policy=voting).accepted == (("D", "E"),)


def test_ground_truth_decides_alone() -> None:
    crowd = [said("anna", "A/C", minutes=9), said("bert", "A/C", minutes=9)]
    truth = said("lead", "D/E", "A/B/X", minutes=1, ground_truth=True, id="77")
    result = verdict(*crowd, truth)
    assert result == Verdict(
        (("A", "B", "X"), ("D", "E")), None, 3, "ground_truth", "The ground truth annotation 77 decides."
    )
    newer = said("anna", "A", minutes=2, ground_truth=True)
    assert verdict(*crowd, truth, newer).accepted == (("A",),)
    assert verdict(truth).accepted == result.accepted  # alone is enough
    assert verdict(said("lead", "D", ground_truth=True, rejected=True)).accepted == (("D",),)


def test_a_review_decides_alone_below_ground_truth() -> None:
    reviewed = said("anna", "A/B/X", reviewed=True)
    result = verdict(reviewed, said("bert", "D", minutes=3), said("cleo", "D", minutes=3))
    assert (result.accepted, result.decided_by) == ((("A", "B", "X"),), "review")
    assert verdict(reviewed, said("bert", "D", minutes=3, reviewed=True)).accepted == (("D",),)
    assert verdict(reviewed, said("bert", "D", minutes=-3, ground_truth=True)).decided_by == "ground_truth"


def test_what_decides_alone_may_say_nothing() -> None:
    crowd = [said("anna", "A/C"), said("bert", "A/C")]
    assert verdict(*crowd, said("lead", ground_truth=True)).reason == Reason.EMPTY
    assert verdict(*crowd, said("lead", reviewed=True, skipped=True)).reason == Reason.SKIPPED
    result = verdict(*crowd, said("lead", ground_truth=True, unknown=(unknown("Z/C"),)))
    assert (result.reason, result.decided_by) == (Reason.UNKNOWN_PATHS, "ground_truth")
    assert '"Z › C" is not in the taxonomy "media"' in result.detail


def test_require_review() -> None:
    strict = AgreementPolicy(require_review=True)
    crowd = [said("anna", "A/C"), said("bert", "A/C")]
    assert verdict(*crowd, policy=strict).reason == Reason.NOT_REVIEWED
    assert verdict(policy=strict).reason == Reason.NOT_ANNOTATED
    assert verdict(*crowd, said("cleo", "D", reviewed=True), policy=strict).accepted == (("D",),)
    assert verdict(*crowd, said("cleo", "D", ground_truth=True), policy=strict).accepted == (("D",),)


def test_rejected_annotations_do_not_count() -> None:
    people = [said("anna", "A/C"), said("bert", "A/C"), said("cleo", "D", rejected=True)]
    assert verdict(*people).annotators == 2
    assert verdict(people[2]).reason == Reason.REJECTED
    assert verdict(people[2], said("dora", skipped=True)).reason == Reason.SKIPPED
    assert verdict(said("anna", "A/C", rejected=True), people[1]).reason == Reason.TOO_FEW_ANNOTATORS


def test_reasons_name_what_was_missing() -> None:
    assert verdict().reason == Reason.NOT_ANNOTATED
    result = verdict(said("anna", "A/C"), said("bert", "D"), said("cleo"))
    assert result == Verdict((), Reason.NO_AGREEMENT, 3, None, 'Most named "A": 1 of 3; 2 are needed.')
    result = verdict(said("anna", "A/C"), said("bert", "D"), policy=HALF)
    assert result.reason == Reason.NO_AGREEMENT
    assert result.detail == '"A" is tied with another path, each named by 1 of 2.'
    assert verdict(said("anna"), said("bert")).reason == Reason.EMPTY
    assert decide([said("anna", "A"), said("bert", "A")], "other", DEFAULT).reason == Reason.EMPTY
    assert verdict(said("anna", "A/C"), said("bert", "A/C")).detail == 'Named "A › C" by 2 of 2.'


def test_an_unknown_path_still_names_its_known_beginning() -> None:
    result = verdict(said("anna", unknown=(unknown("A/B/XY"),)), said("bert", "A/B/X"))
    assert result.accepted == (("A", "B"),)
    assert result.detail.startswith('Named "A › B" by 2 of 2. "A › B › XY" is not in the taxonomy "media"')


def test_unknown_paths_are_the_reason_when_they_could_have_agreed() -> None:
    lost = [said("anna", unknown=(unknown("Q"),)), said("bert", unknown=(unknown("Q"),))]
    result = verdict(*lost)
    assert (result.reason, result.annotators) == (Reason.UNKNOWN_PATHS, 2)
    assert result.detail.count('"Q" is not in the taxonomy') == 1
    assert verdict(lost[0], said("bert", "A/C")).reason == Reason.UNKNOWN_PATHS
    assert verdict(lost[0]).reason == Reason.TOO_FEW_ANNOTATORS
    # one unknown path of four: even with it nothing would have had 3 votes
    others = [said("bert", "A"), said("cleo", "D"), said("dora", "D", "A", minutes=1)]
    assert verdict(lost[0], *others, policy=AgreementPolicy(min_agreement=1.0)).reason == Reason.NO_AGREEMENT
    # who named A besides an unknown path cannot name it once more
    half_known = said("anna", "A", unknown=(unknown("Q"),))
    assert verdict(half_known, *others[:2], policy=AgreementPolicy(min_agreement=1.0)).reason == Reason.NO_AGREEMENT
    # of another control
    foreign = said("anna", unknown=(unknown("Q"),))
    assert decide([foreign, said("bert")], "other", DEFAULT).reason == Reason.EMPTY


@pytest.mark.parametrize(
    ("share", "people", "needed"),
    [(2 / 3, 3, 2), (2 / 3, 6, 4), (2 / 3, 4, 3), (0.7, 10, 7), (0.28, 25, 7), (0.01, 3, 1), (1.0, 5, 5)],
)
def test_votes_needed(share: float, people: int, needed: int) -> None:
    assert AgreementPolicy(min_agreement=share).votes_needed(people) == needed


@pytest.mark.parametrize("values", [{"min_annotators": 0}, {"min_agreement": 0.0}, {"min_agreement": 1.5}])
def test_impossible_policies(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        AgreementPolicy(**values)


def test_recorded_project_with_three_annotators(recorded: Callable[[str], Any], config: LabelConfig) -> None:
    verdicts = [decide(annotations_of(task, config), "media", DEFAULT) for task in recorded("export.json")]
    assert [[format_path(path) for path in v.accepted] for v in verdicts] == [
        ["Badezimmersysteme › Geberit AquaClean › WC-Komplettanlagen"],  # all agree
        ["Badezimmersysteme › Geberit AquaClean › WC-Komplettanlagen"],  # 2 : 1
        ["Badezimmersysteme › Geberit AquaClean"],  # all differ, two of them only below level 2
        [
            "Badezimmersysteme › Geberit AquaClean › WC-Komplettanlagen",
            "Sanitärsysteme › Installationssysteme › Duofix",
        ],
        [],  # one skipped, the others differ
    ]
    assert (verdicts[4].reason, verdicts[4].annotators) == (Reason.NO_AGREEMENT, 2)


PATHS = st.lists(st.sampled_from(SMALL.paths), max_size=3, unique=True)
ANNOTATIONS = st.lists(
    st.builds(
        lambda n, paths, who, minutes, flags: said(who, *paths, minutes=minutes, id=str(n), **flags),
        st.integers(1, 10**6),
        PATHS,
        st.sampled_from(["anna", "bert", "cleo", "dora"]),
        st.integers(0, 3),
        st.fixed_dictionaries(
            {},
            optional={
                "skipped": st.booleans(),
                "ground_truth": st.sampled_from([False, False, False, True]),
                "reviewed": st.sampled_from([False, False, True]),
                "rejected": st.booleans(),
                "unknown": st.sampled_from([(), (unknown("A/B/Z"),), (unknown("Z"),)]),
            },
        ),
    ),
    max_size=7,
    unique_by=lambda annotation: annotation.id,
)
POLICIES = st.builds(
    AgreementPolicy,
    min_annotators=st.integers(1, 3),
    min_agreement=st.sampled_from([0.2, 0.5, 2 / 3, 1.0]),
    require_review=st.booleans(),
    skips_as=st.sampled_from([None, ("D",)]),
)


@given(ANNOTATIONS, POLICIES, st.randoms())
def test_the_order_of_annotations_does_not_matter(annotations: list[Annotation], policy: Any, random: Any) -> None:
    before = decide(annotations, "media", policy)
    random.shuffle(annotations)
    after = decide(annotations, "media", policy)
    assert (after.accepted, after.reason, after.annotators) == (before.accepted, before.reason, before.annotators)


@given(ANNOTATIONS, POLICIES)
def test_accepted_labels_are_deepest_prefixes_of_what_was_said(annotations: list[Annotation], policy: Any) -> None:
    result = decide(annotations, "media", policy)
    assert bool(result.accepted) != (result.reason is not None)
    given_paths = [path for a in annotations for path in a.labels.get("media", ())]
    given_paths += [u.known for a in annotations for u in a.unknown] + [policy.skips_as or ()]
    for path in result.accepted:
        assert any(whole[: len(path)] == path for whole in given_paths)
        assert not any(other != path and other[: len(path)] == path for other in result.accepted)


@given(st.lists(PATHS, min_size=2, max_size=6), st.sampled_from([0.51, 2 / 3, 0.8, 1.0]))
def test_above_a_half_every_node_is_judged_alone(people: list[list[tuple[str, ...]]], share: float) -> None:
    annotations = [said(f"person {n}", *paths) for n, paths in enumerate(people)]
    result = decide(annotations, "media", AgreementPolicy(min_agreement=share))
    agreed = {node for path in result.accepted for node in prefixes(path)}
    for node in SMALL.paths:
        votes = sum(any(path[: len(node)] == node for path in paths) for paths in people)
        assert (node in agreed) == (votes / len(people) >= share)


@given(st.lists(PATHS, min_size=2, max_size=6), st.sampled_from(SMALL.paths))
def test_one_more_voice_for_a_label_never_loses_it(people: list[list[tuple[str, ...]]], path: tuple[str, ...]) -> None:
    annotations = [said(f"person {n}", *paths) for n, paths in enumerate(people)]
    before = decide(annotations, "media", DEFAULT)
    after = decide([*annotations, said("one more", path)], "media", DEFAULT)
    kept = {node for accepted_path in after.accepted for node in prefixes(accepted_path)}
    assert path not in before.accepted or path in kept


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (((), (), ()), Reason.EMPTY),
        (((), (), ("A",)), Reason.EMPTY),  # two of three agree that there is no answer
        (((), ("A",), ("D",)), Reason.NO_AGREEMENT),
        (((), ("A",), ("A",)), None),
    ],
)
def test_enough_empty_answers_are_an_agreement(paths: tuple[tuple[str, ...], ...], reason: Reason | None) -> None:
    given = [said(name, *names) for name, names in zip("abc", paths, strict=True)]
    assert decide(given, "media", AgreementPolicy()).reason == reason


def test_an_annotator_whose_regions_cannot_be_read_has_no_vote() -> None:
    broken = said("c", unreadable=(UnreadableRegion("media", "its value is None"),))
    verdict = decide([said("a", "A"), said("b", "A"), broken], "media", AgreementPolicy(min_agreement=1))
    assert (verdict.accepted, verdict.annotators) == ((("A",),), 2)
    assert decide([broken], "media", AgreementPolicy()).reason == Reason.UNREADABLE
    truth = said("c", unreadable=broken.unreadable, ground_truth=True)
    assert decide([truth], "media", AgreementPolicy()).reason == Reason.UNREADABLE


def test_the_model_is_never_counted_as_a_person() -> None:
    """*Create annotations from predictions* makes annotations in the name of the person who pressed the button."""
    model = said("anna", "D", minutes=9, by_model=True)
    alone = verdict(model, policy=AgreementPolicy(min_annotators=1))
    assert (alone.accepted, alone.reason, alone.annotators) == ((), Reason.NOT_ANNOTATED, 0)
    assert "1 annotation was made from a prediction without a person" in alone.detail
    one = verdict(model, said("bert", "D"))
    assert (one.reason, one.annotators) == (Reason.TOO_FEW_ANNOTATORS, 1)
    assert "prediction" in one.detail
    # It is newer than what the person said, and does not replace it.
    own = verdict(said("anna", "A/C"), model, policy=AgreementPolicy(min_annotators=1))
    assert own.accepted == (("A", "C"),)
    assert verdict(said("anna", "A/C"), said("bert", "A/C"), model).accepted == (("A", "C"),)


def test_an_empty_annotation_of_the_model_is_no_vote() -> None:
    people = [said("anna", "A/C"), said("bert", "A/C")]
    empty = [said(f"person {n}", by_model=True) for n in range(9)]
    assert verdict(*people, *empty).accepted == (("A", "C"),)
    assert "9 annotations were made" in verdict(*people, *empty).detail


def test_the_agreement_report_is_about_people() -> None:
    images = [[said("anna", "A/C"), said("bert", "A/C", by_model=True)]]
    assert [level.images for level in agreement_report(images, SMALL)] == [0, 0, 0]


def test_who_answered_other_controls_only_says_nothing_about_this_one() -> None:
    """Else thousands of annotations that were made with another config would teach "no answer"."""
    others = [replace(said(name), is_of_other_controls=True) for name in ("anna", "bertil", "chidi")]
    assert verdict(*others).reason == Reason.OTHER_CONTROLS
    assert verdict(*others, said("dora", "A/C"), said("emil", "A/C")).accepted == (("A", "C"),)
    assert verdict(*others, said("dora"), said("emil")).reason == Reason.EMPTY
    lead = replace(said("lead", reviewed=True), is_of_other_controls=True)
    assert verdict(*others, lead).reason == Reason.OTHER_CONTROLS
