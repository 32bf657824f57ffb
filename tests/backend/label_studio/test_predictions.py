"""Predictions as Label Studio's JSON."""

from taxonomist.backend.label_studio.predictions import prediction_json
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree

TREE = Tree.from_paths("colour", [("Warm", "Red"), ("Warm", "Yellow"), ("Cold", "Blue")])
LISTED = (("Warm", "Red"), ("Warm", "Yellow"))


def test_the_parent_of_a_shortlist_is_filled_in_and_has_the_paths_in_its_meta() -> None:
    entry = prediction_json("taxonomist-v1", [(TREE, Suggestion(("Warm",), 0.71239, 1, LISTED))])
    paths = [["Warm", "Red"], ["Warm", "Yellow"]]
    (region,) = entry["result"]
    assert region["value"] == {"taxonomy": [["Warm"]]}
    assert region["meta"] == {"shortlist": paths}
    assert entry["shortlists"] == {"colour": {"paths": paths, "score": 0.7124}}
    assert entry["score"] == 0.7124


def test_a_shortlist_without_a_parent_leaves_the_score_to_what_is_filled_in() -> None:
    other = Tree.from_paths("finish", [("Matt",), ("Glossy",)])
    alone = Suggestion((), 0.6, 0, (("Warm", "Red"), ("Cold", "Blue")))
    entry = prediction_json("taxonomist-v1", [(TREE, alone), (other, Suggestion(("Matt",), 0.9, 1))])
    assert [region["from_name"] for region in entry["result"]] == ["finish"]
    assert "meta" not in entry["result"][0]
    assert (entry["score"], entry["shortlists"].keys()) == (0.9, {"colour"})
