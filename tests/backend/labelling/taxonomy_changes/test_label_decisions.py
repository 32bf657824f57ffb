"""A person's decisions on labels whose node is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.api import Project
from taxonomist.backend.labelling.decisions import decide_anew
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import accept_loss, rename_labels, undo
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import labels_outside, training_hold
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectChoices
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TaxonomistError
from taxonomist.taxonomy.label_config import write_label_config
from tests.backend.connection.doctor.test_annotators import exported
from tests.backend.labelling.taxonomy_changes.conftest import SCARLET, SHADE, WARMTH, WITHOUT_RED, accepted, change
from tests.small_world import CONFIG, image_bytes, write_catalogue

Counts = dict[tuple[str, ...], int]
OTHERS: Counts = {("Warm", "Yellow"): 20, ("Cold", "Blue"): 20, ("Cold", "Green"): 20}
SLASHES = CONFIG.replace('"Red"', '"Red / pink"')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Warm / Red", "Warm / Scarlet"),
        ("Warm/Red", "Warm/Scarlet"),
        ("Warm › Red", "Warm › Scarlet"),
        ("Warm > Red", " Warm  >  Scarlet "),
        ('["Warm", "Red"]', '["Warm", "Scarlet"]'),
    ],
)
def test_a_rename_keeps_the_labels(world: Services, old: str, new: str) -> None:
    change(world, SCARLET)
    assert accepted(world) == {("Warm",): 20, **OTHERS}
    decided = rename_labels(world, "7", old, new)
    assert (decided.labels, decided.outside.gone) == (20, ())
    assert accepted(world) == {("Warm", "Scarlet"): 20, **OTHERS}
    assert training_hold(world, "7") is None


def test_an_inner_node_takes_its_subtree_along(world: Services) -> None:
    change(world, WARMTH)
    assert rename_labels(world, "7", "Warm", "Warmth").labels == 40
    assert accepted(world)["Warmth", "Red"] == accepted(world)["Warmth", "Yellow"] == 20
    assert training_hold(world, "7") is None


def test_what_the_new_subtree_does_not_have_waits_on(world: Services) -> None:
    change(world, WARMTH.replace('<Choice value="Red"/>', ""))
    (gone,) = rename_labels(world, "7", "Warm", "Warmth").outside.gone
    assert (gone.path, gone.labels) == (("Warm", "Red"), 20)
    assert accept_loss(world, "7", ["Warm / Red"]).outside.gone == ()
    assert accepted(world) == {("Warmth",): 20, ("Warmth", "Yellow"): 20, ("Cold", "Blue"): 20, ("Cold", "Green"): 20}


def test_a_control_is_renamed_with_all_its_labels(world: Services) -> None:
    change(world, SHADE)
    assert accepted(world) == {}
    assert rename_labels(world, "7", "colour", "shade").labels == 80
    assert accepted(world) == {("Warm", "Red"): 20, **OTHERS}
    change(world, SHADE.replace('"Red"', '"Scarlet"'))
    (gone,) = labels_outside(world, "7").gone
    assert (gone.control, gone.path) == ("shade", ("Warm", "Red"))
    rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")
    assert accepted(world) == {("Warm", "Scarlet"): 20, **OTHERS}


def test_a_node_of_a_control_that_is_gone_needs_the_control_first(world: Services) -> None:
    change(world, SHADE)
    with pytest.raises(ConfigError, match="is gone") as error:
        rename_labels(world, "7", "Warm / Red", "Warm / Red")
    assert 'taxonomist labels rename "colour" CONTROL' in str(error.value.hint)


def test_renames_follow_a_second_change(world: Services) -> None:
    change(world, SCARLET)
    rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")
    change(world, CONFIG.replace('"Red"', '"Crimson"'))
    assert accepted(world) == {("Warm",): 20, **OTHERS}
    assert training_hold(world, "7") is not None
    rename_labels(world, "7", "Warm / Scarlet", "Warm / Crimson")
    assert accepted(world) == {("Warm", "Crimson"): 20, **OTHERS}


def test_a_name_with_slashes(world: Services) -> None:
    change(world, SLASHES)
    rename_labels(world, "7", "Warm / Red", "Warm / Red / pink")
    assert accepted(world) == {("Warm", "Red / pink"): 20, **OTHERS}


def test_an_accepted_loss_holds_nothing_back_and_keeps_the_beginning(world: Services) -> None:
    change(world, WITHOUT_RED)
    decided = accept_loss(world, "7", ["Warm / Red"])
    assert (decided.labels, decided.outside.gone) == (20, ())
    assert [(node.path, node.labels) for node in decided.outside.accepted] == [(("Warm", "Red"), 20)]
    assert accepted(world) == {("Warm",): 20, **OTHERS}


@pytest.mark.parametrize(("config", "expected"), [(SCARLET, ("Warm", "Scarlet")), (WITHOUT_RED, ("Warm",))])
def test_annotations_that_arrive_later_follow_the_decision(
    world: Services, tmp_path: Path, config: str, expected: tuple[str, ...]
) -> None:
    """From an old export, and from the old manifest: the tree does not grow by what is gone."""
    change(world, config)
    if config is SCARLET:
        rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")
    else:
        accept_loss(world, "7")
    world.projects.update("7", settings=ProjectChoices(annotators=1))
    import_export(world, exported(tmp_path), project="7")
    assert labels_outside(world, "7").gone == ()
    manifest = tmp_path / "catalogue" / "manifest.csv"
    import_manifest(world, manifest, "7")
    import_manifest(world, manifest, "7", options=ManifestOptions(source="second"))
    assert world.projects.get("7").label_config == config
    decide_anew(world, "7")
    assert accepted(world) == {expected: 24, **OTHERS}
    assert training_hold(world, "7") is None


def test_a_manifests_tree_does_not_grow_by_what_is_gone(services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path, 8)
    import_manifest(services, manifest, "furniture")
    config = write_label_config([("Warm", "Scarlet"), ("Warm", "Yellow"), ("Cold", "Blue"), ("Cold", "Green")])
    (tmp_path / "new.xml").write_text(config)
    import_manifest(services, manifest, "furniture", options=ManifestOptions(config=tmp_path / "new.xml"))
    import_manifest(services, manifest, "furniture")
    assert services.projects.get("furniture").label_config == config
    assert [node.path for node in labels_outside(services, "furniture").gone] == [("Warm", "Red")]


def test_a_decision_is_withdrawn(world: Services) -> None:
    change(world, SCARLET)
    rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")
    decided = undo(world, "7", "Warm / Red")
    assert (decided.labels, [node.path for node in decided.outside.gone]) == (20, [("Warm", "Red")])
    assert accepted(world) == {("Warm",): 20, **OTHERS}
    assert world.projects.get("7").label_decisions == ()
    accept_loss(world, "7", ["Warm / Red"])
    rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")  # in place of the first one
    assert len(world.projects.get("7").label_decisions) == 1
    with pytest.raises(NotFoundError, match=r"no decision of project 7 \"Warm / Rad\""):
        undo(world, "7", "Warm / Rad")


def test_decisions_outlast_a_new_process_and_every_way_to_decide(world: Services) -> None:
    change(world, SCARLET)
    rename_labels(world, "7", "Warm / Red", "Warm / Scarlet")
    again = Services(world.settings.model_copy(update={"min_agreement": 0.9}))
    decide_anew(again, "7")
    assert accepted(again) == {("Warm", "Scarlet"): 20, **OTHERS}


def test_the_served_model_suggests_the_new_name(trained: Services, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(image_bytes(("Warm", "Red"), 999))
    change(trained, SCARLET)
    assert Project(trained, "7").predict([photo])[0].path == ("Warm",)
    rename_labels(trained, "7", "Warm / Red", "Warm / Scarlet")
    assert Project(trained, "7").predict([photo])[0].path == ("Warm", "Scarlet")


@pytest.mark.parametrize(
    ("old", "new", "project", "kind", "message", "hint"),
    [
        ("Warm / Rad", "Warm / Scarlet", "7", NotFoundError, "no node that is gone", "Similar: Warm / Red"),
        ("Warm / Red", "Warm / Scarlat", "7", NotFoundError, "no node of the taxonomy", "Similar: Warm / Scarlet"),
        ("Warm / Yellow", "Warm / Scarlet", "7", ConfigError, "is in the taxonomy", "Only nodes that are gone"),
        ("Warm / Red", "Warm / Scarlet", "8", NotFoundError, "Project 8 is not known", "Known projects: 7"),
        ("", "Warm / Scarlet", "7", NotFoundError, "no node that is gone", "Warm / Red"),
    ],
)
def test_errors_name_what_is_similar(
    world: Services, old: str, new: str, project: str, kind: type[TaxonomistError], message: str, hint: str
) -> None:
    change(world, SCARLET)
    with pytest.raises(kind, match=message) as error:
        rename_labels(world, project, old, new)
    assert hint in str(error.value.hint)
    assert world.projects.get("7").label_decisions == ()


def test_a_node_of_two_controls_needs_the_control(services: Services) -> None:
    second = CONFIG.replace(
        "</View>",
        '<Taxonomy name="other" toName="image"><Choice value="Warm"><Choice value="Red"/></Choice></Taxonomy></View>',
    )
    services.projects.update("7", label_config=second)
    services.projects.update("7", label_config=second.replace('"Red"', '"Scarlet"'))
    with pytest.raises(ConfigError, match="may be several nodes") as error:
        rename_labels(services, "7", "Warm / Red", "Warm / Scarlet")
    assert "--control" in str(error.value.hint)
    (decision,) = rename_labels(services, "7", "Warm / Red", "Warm / Scarlet", control="other").decisions
    assert decision.control == "other"


def test_a_rename_before_any_label_has_arrived(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=CONFIG)
    services.projects.update("7", label_config=SCARLET)
    assert rename_labels(services, "7", "Warm / Red", "Warm / Scarlet").labels == 0
    one = Services(services.settings.model_copy(update={"min_annotators": 1}))
    import_export(one, exported(tmp_path), project="7")
    assert accepted(services) == {("Warm", "Scarlet"): 4}


def test_a_node_that_came_back_and_goes_again_needs_a_decision_of_its_own(world: Services) -> None:
    change(world, WITHOUT_RED)
    accept_loss(world, "7", ["Warm / Red"])
    assert training_hold(world, "7") is None
    change(world, CONFIG)
    assert accepted(world)["Warm", "Red"] == 20
    change(world, SCARLET)
    assert training_hold(world, "7") is not None
    (gone,) = labels_outside(world, "7").gone
    assert (gone.path, gone.labels) == (("Warm", "Red"), 20)
