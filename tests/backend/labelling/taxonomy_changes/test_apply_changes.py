"""What became of nodes that are gone: shown, and applied where it is certain or a person says so."""

from __future__ import annotations

import pytest

from taxonomist.backend.labelling.decisions import decide_anew, update_labels
from taxonomist.backend.labelling.taxonomy_changes.apply_changes import Rename, apply_certain, map_labels, open_changes
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import accept_loss, undo
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import labels_outside, training_hold
from taxonomist.backend.labelling.taxonomy_changes.taxonomy_diff import taxonomy_diff
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecord
from taxonomist.backend.worker.repaired_records import RecordKeeper, restore_missing
from taxonomist.taxonomy.errors import ConfigError, NotFoundError
from tests.backend.labelling.taxonomy_changes.conftest import (
    SHADE,
    WARMTH,
    WITHOUT_RED,
    accepted,
    change,
)
from tests.small_world import CONFIG

Counts = dict[tuple[str, ...], int]
BEFORE: Counts = {("Warm", "Red"): 20, ("Warm", "Yellow"): 20, ("Cold", "Blue"): 20, ("Cold", "Green"): 20}
MOVED = CONFIG.replace('<Choice value="Red"/>', "").replace('"Blue"/>', '"Blue"/><Choice value="Red"/>')
WARMTH_AND_MORE = WARMTH.replace('"Red"', '"Scarlet"').replace('<Choice value="Green"/>', '<Choice value="Lime"/>')


def changes(services: Services) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    found = open_changes(services, "7")
    certain, asked = ([(str(node), node.labels) for node in nodes] for nodes in (found.certain, found.asked))
    return certain, asked


@pytest.mark.parametrize(
    ("config", "certain", "new"),
    [
        (WARMTH, "Warm → Warmth", {("Warmth", "Red"): 20, ("Warmth", "Yellow"): 20}),
        (CONFIG.replace('"Warm"', '"WARM"'), "Warm → WARM", {("WARM", "Red"): 20, ("WARM", "Yellow"): 20}),
        (MOVED, "Warm › Red → Cold › Red", {("Cold", "Red"): 20, ("Warm", "Yellow"): 20}),
        (SHADE, 'control "colour" → control "shade"', {("Warm", "Red"): 20, ("Warm", "Yellow"): 20}),
    ],
)
def test_after_a_certain_change_all_labels_are_there(world: Services, config: str, certain: str, new: Counts) -> None:
    change(world, config)
    assert training_hold(world, "7") is not None
    labels = 80 if config is SHADE else sum(new.values()) - (20 if config is MOVED else 0)
    assert changes(world) == ([(certain, labels)], [])
    assert apply_certain(world, "7", dry_run=True).labels == labels
    assert training_hold(world, "7") is not None  # nothing was changed
    assert apply_certain(world, "7").labels == labels
    assert accepted(world) == {("Cold", "Blue"): 20, ("Cold", "Green"): 20, **new}
    assert training_hold(world, "7") is None
    assert changes(world) == ([], [])
    assert apply_certain(world, "7").decisions == ()


def test_what_is_not_certain_is_asked_for_with_a_proposal(world: Services) -> None:
    change(world, WARMTH_AND_MORE)
    assert changes(world) == ([], [("Warm → Warmth", 40), ("Cold › Green → Cold › Lime", 20)])
    assert apply_certain(world, "7").decisions == ()
    decided = map_labels(world, "7", [Rename("Warm", "Warmth"), Rename("Cold / Green", "Cold / Lime")])
    assert decided.labels == 60
    assert [node.path for node in decided.outside.gone] == [("Warm", "Red")]
    map_labels(world, "7", [Rename("Warm / Red", "Warmth / Scarlet")])
    assert accepted(world) == {
        ("Warmth", "Scarlet"): 20,
        ("Warmth", "Yellow"): 20,
        ("Cold", "Blue"): 20,
        ("Cold", "Lime"): 20,
    }


def test_a_certain_change_leaves_the_rest_to_a_person(world: Services) -> None:
    change(world, MOVED.replace('<Choice value="Green"/>', ""))
    assert changes(world) == ([("Warm › Red → Cold › Red", 20)], [("Cold › Green → ?", 20)])
    assert [node.path for node in apply_certain(world, "7").outside.gone] == [("Cold", "Green")]
    assert accepted(world) == {("Cold", "Red"): 20, ("Warm", "Yellow"): 20, ("Cold", "Blue"): 20, ("Cold",): 20}
    assert "20 labels name a node" in str(training_hold(world, "7"))


def test_nodes_are_merged_by_a_person(world: Services) -> None:
    change(world, WITHOUT_RED.replace('<Choice value="Yellow"/>', '<Choice value="Orange"/>'))
    assert changes(world)[0] == []
    map_labels(world, "7", [Rename("Warm / Red", "Warm / Orange"), Rename("Warm / Yellow", "Warm / Orange")])
    assert accepted(world) == {("Warm", "Orange"): 40, ("Cold", "Blue"): 20, ("Cold", "Green"): 20}


def test_a_persons_decision_comes_first(world: Services) -> None:
    change(world, MOVED)
    accept_loss(world, "7", ["Warm / Red"])
    assert changes(world) == ([], [])
    assert apply_certain(world, "7").decisions == ()
    undo(world, "7", "Warm / Red")
    assert changes(world)[0] == [("Warm › Red → Cold › Red", 20)]


def test_changes_follow_each_other(world: Services) -> None:
    """Each of them is certain, so their sequence is; what goes meanwhile is asked for."""
    change(world, CONFIG.replace('"Red"', '"RED"'))
    change(world, CONFIG.replace('"Red"', '"RED"').replace('"Warm"', '"Warmth"'))
    assert changes(world) == ([("Warm › Red → Warm › RED", 20), ("Warm → Warmth", 20)], [])
    apply_certain(world, "7")
    assert accepted(world) == {
        ("Warmth", "RED"): 20,
        ("Warmth", "Yellow"): 20,
        ("Cold", "Blue"): 20,
        ("Cold", "Green"): 20,
    }
    change(world, WITHOUT_RED.replace('"Warm"', '"Warmth"'))
    assert labels_outside(world, "7").gone[0].labels == 20


def test_all_names_are_checked_before_one_is_recorded(world: Services) -> None:
    change(world, WARMTH_AND_MORE)
    good = Rename("Warm", "Warmth")
    with pytest.raises(NotFoundError, match="no node of the taxonomy"):
        map_labels(world, "7", [good, Rename("Cold / Green", "Cold / Lemon")])
    with pytest.raises(ConfigError, match="Warm is renamed twice"):
        map_labels(world, "7", [good, Rename("Warm", "Cold")])
    with pytest.raises(ConfigError, match="is in the taxonomy"):
        map_labels(world, "7", [good, Rename("Cold", "Warmth")])
    assert world.projects.get("7").label_decisions == ()


def test_an_end_between_the_record_and_the_labels_loses_nothing(
    world: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(world, WARMTH)
    with monkeypatch.context() as patch:
        patch.setattr("taxonomist.backend.labelling.decisions.CHUNK", 30)
        calls = []

        def dies(services: Services, project: str, images: list[str]) -> int:
            calls.append(len(images))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return update_labels(services, project, images)

        patch.setattr("taxonomist.backend.labelling.decisions.update_labels", dies)
        with pytest.raises(KeyboardInterrupt):
            apply_certain(world, "7")
    assert 0 < accepted(world).get(("Warmth", "Red"), 0) < 20
    decide_anew(world, "7")  # as the worker does each second
    assert accepted(world)["Warmth", "Red"] == accepted(world)["Warmth", "Yellow"] == 20


def test_the_journal_gives_the_same_again(world: Services) -> None:
    """Record and labels are gone: the journal has the decisions, and the annotations as they were given."""
    change(world, WARMTH)
    apply_certain(world, "7")
    labels = accepted(world)
    RecordKeeper(world).keep(world.projects.get("7"))
    images = [document.id for document in world.catalog.documents("7")]
    world.projects.remove("7")
    again = Services(world.settings)
    restore_missing(again)
    record: ProjectRecord = again.projects.get("7")
    assert [(decision.old, decision.new) for decision in record.label_decisions] == [(("Warm",), ("Warmth",))]
    again.catalog.update_many(
        {image: lambda document: document.model_copy(update={"projects": {}}) for image in images}
    )
    assert accepted(again) == {}
    again.journal.withdrawal.decide_again("7", images)
    update_labels(again, "7", images)
    assert accepted(again) == labels


def test_the_node_comes_back_with_its_labels(world: Services) -> None:
    change(world, MOVED)
    apply_certain(world, "7")
    change(world, CONFIG)
    assert accepted(world) == BEFORE
    assert training_hold(world, "7") is None


def test_where_no_name_is_similar_the_images_propose(trained: Services) -> None:
    """Yellow is divided up: its images look most like those of the node that got three of them."""
    config = CONFIG.replace('"Yellow"', '"Sunlight"').replace('"Green"/>', '"Green"/><Choice value="Grass"/>')
    change(trained, config)
    documents = [d for d in trained.catalog.documents("7") if d.projects["7"].accepted == {"colour": [["Warm"]]}]
    assert len(documents) == 20
    for document in documents[:3]:
        labels = document.projects["7"].model_copy(update={"accepted": {"colour": [["Cold", "Grass"]]}})
        trained.catalog.put(document.in_project("7", labels))
    trained.journal.unknown_paths.keep("7", {document.id: {} for document in documents[:3]})
    trained.projects.update("7", matches=())  # as if it had been changed before they were kept
    (asked,) = taxonomy_diff(trained, "7", with_looks=True).asked
    assert (str(asked), asked.labels) == ("Warm › Yellow → Cold › Grass", 17)
    assert asked.reason == "its images look most alike"
    (asked,) = taxonomy_diff(trained, "7").asked
    assert asked.new is None
