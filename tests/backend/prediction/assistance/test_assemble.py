"""Offers and groups of look-alikes."""

from __future__ import annotations

from taxonomist.backend.prediction.assistance import Offer, OffersKind, ShownLookAlike
from taxonomist.backend.prediction.assistance.assemble import groups_of, offers_of, takes
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree

SINK, CORNER, ROUND, BED = ("Bath", "Sink"), ("Bath", "Sink", "Corner"), ("Bath", "Sink", "Round"), ("Bed",)
PATHS = (("Bath",), SINK, CORNER, ROUND, BED)
TREE = Tree("room", "image", "taxonomy", PATHS)
CHANCES = {("Bath",): 0.96, SINK: 0.95, CORNER: 0.6, ROUND: 0.35, BED: 0.04}


def test_the_likeliest_leaves_follow_a_suggestion() -> None:
    found = offers_of(TREE, Suggestion(SINK, 0.95, 2), CHANCES)
    assert found.kind == OffersKind.SUGGESTION
    assert found.offers == (Offer(SINK, 0.95), Offer(CORNER, 0.6), Offer(ROUND, 0.35))


def test_a_shortlist_has_the_probability_of_each_path() -> None:
    found = offers_of(TREE, Suggestion(SINK, 0.95, 2, (CORNER, ROUND)), CHANCES)
    assert (found.kind, found.offers) == (OffersKind.SHORTLIST, (Offer(CORNER, 0.6), Offer(ROUND, 0.35)))


def test_a_vote_is_alone() -> None:
    found = offers_of(TREE, Suggestion(CORNER, 0.7, 3), {})
    assert (found.kind, found.offers) == (OffersKind.VOTE, (Offer(CORNER, 0.7),))


def test_a_control_takes_what_its_config_allows() -> None:
    leaves = Tree("room", "image", "taxonomy", PATHS, leafs_only=True, max_usages=1)
    single = Tree("room", "image", "choices", (("Bath",), BED), multiple=False)
    assert [takes(TREE, [SINK]), takes(leaves, [SINK]), takes(leaves, [CORNER])] == [True, False, True]
    assert [takes(TREE, [CORNER, BED]), takes(leaves, [CORNER, BED])] == [True, False]
    assert [takes(single, [BED]), takes(single, [BED, ("Bath",)])] == [True, False]
    assert [takes(TREE, [("Gone",)]), takes(TREE, [])] == [False, False]


def test_look_alikes_are_grouped_by_their_labels() -> None:
    shown = [ShownLookAlike(f"{number}", "", 1 - number / 10) for number in range(6)]
    labels = [(CORNER,), (BED,), (BED,), (CORNER, BED), (), (("Gone",),)]
    labelled = [(image, {"room": paths, "other": (BED,)}) for image, paths in zip(shown, labels, strict=True)]
    groups = groups_of([TREE], labelled)
    assert [[image.image_id for image in group.look_alikes] for group in groups] == [["1", "2"], ["0"], ["3"], ["5"]]
    assert [group.labels["room"] for group in groups] == [(BED,), (CORNER,), (CORNER, BED), (("Gone",),)]
    assert [bool(group.can_be_set) for group in groups] == [True, True, True, False]
