"""What the doctor says of a project's model."""

from __future__ import annotations

import math

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from tests.backend.connection.doctor.conftest import CONFIG, publish, seen
from tests.small_world import publish_promise


def test_why_there_is_no_model(services: Services) -> None:
    services.projects.update("furniture", label_config=CONFIG)
    assert "no training was requested" in seen(services, "furniture")["model"].detail
    job = services.jobs.enqueue(JobKind.TRAIN, "furniture")
    assert "waiting" in seen(services, "furniture")["model"].detail
    services.jobs.start(job.id)
    services.jobs.finish(job.id, JobState.FAILED, "2 labels are too few")
    model = seen(services, "furniture")["model"]
    assert model.status == "warn"
    assert "2 labels are too few" in model.detail
    assert model.fix.startswith("taxonomist train --project furniture")


def test_a_model_that_fits(services: Services) -> None:
    services.projects.update("furniture", label_config=CONFIG)
    publish(services, "furniture")
    checks = seen(services, "furniture")
    assert checks["model"].detail.startswith("taxonomist-v1 is served")
    assert checks["model's taxonomy"].status == "ok"
    assert "Label Studio" not in checks  # a project that was imported lives here only


def test_too_few_labels_to_suggest_a_path(services: Services) -> None:
    publish_promise(services, "furniture", target=0.9, threshold=math.inf)
    check = seen(services, "furniture")["model's suggestions"]
    assert check.status == "warn"
    assert check.detail == "colour: not enough labels yet: 40 of more than 80 that calibrate"
    publish_promise(services, "furniture", target=0.9, threshold=0.7)
    assert "model's suggestions" not in seen(services, "furniture")


def test_a_config_that_changed_since_the_training(services: Services) -> None:
    publish(services, "furniture")
    changed = CONFIG.replace('<Choice value="B"/>', '<Choice value="C"/><Choice value="D"/>')
    services.projects.update("furniture", label_config=changed)
    check = seen(services, "furniture")["model's taxonomy"]
    assert (check.status, check.detail) == ("warn", "has changed since the training: 2 paths are new, 1 are gone")
    services.projects.update("furniture", label_config="<View/>")
    assert seen(services, "furniture")["model's taxonomy"].status == "fail"


def test_a_damaged_model(services: Services) -> None:
    model = publish(services, "furniture")
    file = model.path / "head.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"weighty")
    check = seen(services, "furniture")["model"]
    assert check.status == "fail"
    assert check.fix.startswith("taxonomist models rollback --project furniture")


def test_of_several_projects_each_is_named(services: Services) -> None:
    for project in ("furniture", "toys"):
        services.projects.update(project, label_config=CONFIG)
    checks = seen(services)
    assert {"project furniture: model", "project toys: model"} <= set(checks)
