"""Which labels name what the taxonomy has no longer, and what that holds back."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.labelling.taxonomy_changes.label_decisions import accept_loss, rename_labels
from taxonomist.backend.labelling.taxonomy_changes.labels_outside import labels_outside, training_hold
from taxonomist.backend.retraining.training_job import train
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.status import collect_status, status_lines
from taxonomist.backend.web.app import create_app
from taxonomist.backend.worker.job_loop import JobLoop
from taxonomist.backend.worker.worker import Worker
from taxonomist.taxonomy.errors import HeldError
from tests.backend.connection.doctor.test_annotators import exported
from tests.backend.labelling.taxonomy_changes.conftest import (
    DEEPER,
    SCARLET,
    SHADE,
    WARMTH,
    WITHOUT_RED,
    accepted,
    change,
)
from tests.small_world import CONFIG, write_catalogue

Node = tuple[str, ...]


@pytest.mark.parametrize(
    ("config", "node", "labels", "nearest"),
    [
        (WITHOUT_RED, ("Warm", "Red"), 20, None),
        (CONFIG.replace('"Yellow"', '"Yelow"'), ("Warm", "Yellow"), 20, ("Warm", "Yelow")),
        (WARMTH, ("Warm",), 40, ("Warmth",)),
        (DEEPER, ("Warm", "Red"), 20, ("Warm", "Bright", "Red")),
        (SHADE, (), 80, None),
    ],
)
def test_labels_on_a_node_that_is_gone(
    world: Services, config: str, node: Node, labels: int, nearest: Node | None
) -> None:
    assert training_hold(world, "7") is None
    change(world, config)
    (gone,) = labels_outside(world, "7").gone
    assert (gone.control, gone.path, gone.labels, gone.nearest) == ("colour", node, labels, nearest)
    held = training_hold(world, "7")
    assert held is not None
    assert f"{labels} labels name a node that the taxonomy has no longer" in str(held)
    assert "taxonomist labels accept-loss" in str(held)
    change(world, CONFIG)  # it comes back
    assert labels_outside(world, "7").gone == ()
    assert accepted(world) == {("Warm", "Red"): 20, ("Warm", "Yellow"): 20, ("Cold", "Blue"): 20, ("Cold", "Green"): 20}


def test_each_annotators_label_counts(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=CONFIG)
    import_manifest(services, write_catalogue(tmp_path, 8, annotators=("anna", "bela")), "7")
    change(services, SCARLET)
    (gone,) = labels_outside(services, "7").gone
    assert gone.labels == 4


def test_a_node_that_is_gone_while_the_config_was_refused(world: Services) -> None:
    world.projects.update("7", label_config="<View/>")
    assert training_hold(world, "7") is None  # nothing can be trained anyhow
    change(world, WITHOUT_RED)
    assert [node.path for node in labels_outside(world, "7").gone] == [("Warm", "Red")]


def test_the_image_leaves_with_its_labels(world: Services, tmp_path: Path) -> None:
    change(world, WITHOUT_RED)
    manifest = tmp_path / "catalogue" / "manifest.csv"
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join(row for row in rows if ",Red," not in row))
    import_manifest(world, manifest, "7", options=ManifestOptions(confirmed=True))
    assert labels_outside(world, "7").gone == ()


def test_names_that_the_taxonomy_never_had_hold_nothing_back(services: Services, tmp_path: Path) -> None:
    """An import lists them, and a person reads that."""
    services.projects.update("7", label_config=WITHOUT_RED)
    import_export(services, exported(tmp_path), project="7")
    outside = labels_outside(services, "7")
    assert (outside.gone, [(node.path, node.labels) for node in outside.unknown]) == ((), [(("Warm", "Red"), 4)])
    assert training_hold(services, "7") is None
    check = {check.name: check for check in run_checks(services, "7")}["labels outside the taxonomy"]
    assert check.status == "warn"
    assert "4 labels name a node that the taxonomy never had: Warm › Red (4 labels)" in check.detail


def test_the_doctor_reports_what_is_gone_and_what_never_was(services: Services, tmp_path: Path) -> None:
    services.projects.update("7", label_config=SCARLET)
    import_export(services, exported(tmp_path), project="7")
    change(services, WITHOUT_RED.replace('<Choice value="Yellow"/>', ""))
    other = tmp_path / "other"
    other.mkdir()
    path = exported(other)
    path.write_text(path.read_text().replace("Red", "Yellow").replace("https://host", "https://other"))
    import_export(services, path, project="7", source="other")
    checks = [check for check in run_checks(services, "7") if check.name == "labels outside the taxonomy"]
    assert [check.status for check in checks] == ["fail", "warn"]
    assert "Warm › Yellow (4 labels" in checks[0].detail
    assert "never had: Warm › Red (4 labels" in checks[1].detail
    shown = "\n".join(status_lines(collect_status(services)))
    assert "4 labels on nodes that the taxonomy has no longer; training waits" in shown
    assert "4 labels with names that the taxonomy never had" in shown


def test_the_doctor_names_the_likely_new_node(world: Services) -> None:
    change(world, WARMTH)
    check = {check.name: check for check in run_checks(world, "7")}["labels outside the taxonomy"]
    assert check.status == "fail"
    assert "Warm (40 labels; the nearest is Warmth)" in check.detail
    assert "taxonomist taxonomy apply --project 7 --yes` lets 40 labels count" in check.fix
    change(world, WITHOUT_RED.replace("Yellow", "Yellows"))
    check = {check.name: check for check in run_checks(world, "7")}["labels outside the taxonomy"]
    assert "Warm › Yellow (20 labels; the nearest is Warm › Yellows)" in check.detail
    assert "taxonomist labels " in check.fix


def test_a_training_is_held_and_the_served_version_stays(trained: Services) -> None:
    change(trained, SCARLET)
    with pytest.raises(HeldError, match="20 labels name a node"):
        train(trained, "7", lambda step, share: None)
    assert [version.version for version in trained.registry.versions("project-7")] == ["v1"]
    assert trained.registry.champion("project-7") == "v1"


def test_start_training_says_why_it_is_held(world: Services) -> None:
    change(world, WITHOUT_RED)
    client: FlaskClient = create_app(world.settings, world).test_client()
    body = {"action": "START_TRAINING", "project": {"id": 7, "label_config": WITHOUT_RED}}
    answer = client.post("/webhook", json=body).get_json()
    assert "20 labels name a node that the taxonomy has no longer" in answer["held"]
    assert "20 labels" in client.post("/train", json={"project": 7}).get_json()["held"]
    loop = JobLoop(world, threading.Event())
    while loop.run_next():
        pass
    (job,) = world.jobs.latest("7", JobKind.TRAIN)
    assert (job.id, job.state) == (answer["job"], JobState.FAILED)
    assert "wait for a person's decision" in job.outcome


@pytest.mark.parametrize("decision", ["rename", "loss"])
def test_the_worker_waits_and_goes_on_after_the_decision(
    world: Services, caplog: pytest.LogCaptureFixture, decision: str
) -> None:
    quick = Services(world.settings.model_copy(update={"retrain_after": 0}))
    worker = Worker(quick)
    quick.projects.update("7", label_config=SCARLET)
    with caplog.at_level(logging.WARNING):
        worker.pulse()
        worker.pulse()
    assert sum("wait for a person's decision" in message for message in caplog.messages) == 2  # change and schedule
    assert [job.kind for job in quick.jobs.waiting() if job.kind is JobKind.TRAIN] == []
    if decision == "rename":
        rename_labels(quick, "7", "Warm / Red", "Warm / Scarlet")
    else:
        accept_loss(quick, "7", ["Warm / Red"])
    worker.pulse()
    assert [job.kind for job in quick.jobs.waiting() if job.kind is JobKind.TRAIN] == [JobKind.TRAIN]


def test_a_training_that_was_held_follows_the_decision(world: Services) -> None:
    """Also where nothing else has changed since."""
    quick = Services(world.settings.model_copy(update={"retrain_after": 0}))
    change(quick, WITHOUT_RED)
    quick.projects.update("7", changed_labels=0)
    with pytest.raises(HeldError):
        train(quick, "7", lambda step, share: None)
    accept_loss(quick, "7")
    Worker(quick).pulse()
    assert [job.kind for job in quick.jobs.waiting() if job.kind is JobKind.TRAIN] == [JobKind.TRAIN]
