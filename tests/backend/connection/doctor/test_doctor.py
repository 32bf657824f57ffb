"""The doctor on this machine alone. Its checks of a real Label Studio are in tests/e2e/test_connect.py."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from werkzeug.serving import make_server

from taxonomist.backend.connection.doctor import Check, run_checks
from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.web.app import create_app
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.label_config import parse_label_config
from tests.small_world import CONFIG as COLOURS
from tests.small_world import image_bytes

CONFIG = (
    '<View><Image name="image" value="$image"/><Taxonomy name="media" toName="image">'
    '<Choice value="A"><Choice value="B"/></Choice></Taxonomy></View>'
)


def seen(services: Services, project: str | None = None) -> dict[str, Check]:
    checks = run_checks(services, project)
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert bool(check.fix) == (check.status != "ok"), check
        assert check.status in {"ok", "warn", "fail"}
    return {check.name: check for check in checks}


@pytest.fixture
def served(services: Services) -> Iterator[Services]:
    """The same services, with our own application answering where they say it does."""
    server = make_server("127.0.0.1", 0, create_app(services.settings, services), threaded=True)
    services.settings.port = server.server_port
    services.settings.__dict__.pop("url", None)  # it may have been worked out for the former port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield services
    server.shutdown()
    thread.join()
    server.server_close()


def publish(services: Services, project: str, config: str = CONFIG) -> ModelVersion:
    name = registry_name(project)
    with services.registry.stage(name) as folder:
        (folder / "head.safetensors").write_bytes(b"weights")
        trees = [tree.to_json() for tree in parse_label_config(config).trees]
        model = services.registry.publish(
            name, folder, {"kind": "head", "backbone": "v1", "trees": trees, "calibration": {}}
        )
    services.registry.promote(name, model.version)
    return model


def test_a_machine_where_nothing_runs(services: Services) -> None:
    services.settings.port = 1
    checks = seen(services)
    assert {name: check.status for name, check in checks.items() if name != "disk"} == {
        "home folder": "ok",
        "address": "ok",
        "server": "fail",
        "worker": "fail",
        "backbone": "warn",
        "project": "warn",
    }
    assert checks["server"].fix == "taxonomist serve"
    assert checks["project"].fix.startswith("taxonomist connect --url")
    assert not list(services.settings.home.glob(".doctor-*"))


def test_a_machine_where_all_runs(served: Services) -> None:
    served.settings.home.mkdir(parents=True, exist_ok=True)
    heartbeat.beat(served.settings.home)
    checks = seen(served)
    assert checks["server"].status == "ok"
    assert checks["worker"].status == "ok"


def test_a_worker_that_died(services: Services) -> None:
    services.settings.home.mkdir(parents=True)
    (services.settings.home / "worker.json").write_text(json.dumps({"at": time.time() - 7300, "pid": 1}))
    worker = seen(services)["worker"]
    assert worker.status == "fail"
    assert worker.detail == "its last heartbeat was 2 hours ago"


def test_another_server_at_our_address(services: Services) -> None:
    from flask import Flask

    server = make_server("127.0.0.1", 0, Flask("stranger"))
    services.settings.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        check = seen(services)["server"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert check.status == "fail"
    assert "something else answers" in check.detail


def test_addresses_that_cannot_work(tmp_path: Path) -> None:
    open_to_all = Services(Settings(home=tmp_path, host="0.0.0.0", port=1))
    assert "TAXONOMIST_PASSWORD" in seen(open_to_all)["address"].fix
    nowhere = Services(Settings(home=tmp_path, host="0.0.0.0", port=1, allow_no_password=True))
    assert "TAXONOMIST_PUBLIC_URL" in seen(nowhere)["address"].fix


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    checks = seen(Services(Settings(home=tmp_path / "file" / "home", port=1)), "furniture")
    assert checks["home folder"].status == "fail"
    assert "TAXONOMIST_HOME" in checks["home folder"].fix
    assert "disk" not in checks
    assert checks["model"].status == "fail"


@pytest.mark.parametrize(("free", "status"), [(10**8, "fail"), (10**9, "warn"), (10**10, "ok")])
def test_disk_space(services: Services, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)  # a disk cannot be filled up in a test
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert seen(services)["disk"].status == status


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


def test_label_studio_that_is_unknown_or_away(services: Services) -> None:
    services.projects.update("4", label_config=CONFIG)
    unknown = seen(services, "4")["Label Studio"]
    assert (unknown.status, "taxonomist connect" in unknown.fix) == ("fail", True)
    services.settings.label_studio_url = "http://127.0.0.1:1"
    services.projects.update("4", api_key=SecretStr("t"))
    away = seen(services, "4")["Label Studio"]
    assert "cannot be reached" in away.detail
    assert away.fix


def test_of_several_projects_each_is_named(services: Services) -> None:
    for project in ("furniture", "toys"):
        services.projects.update(project, label_config=CONFIG)
    checks = seen(services)
    assert {"project furniture: model", "project toys: model"} <= set(checks)


def test_how_well_annotators_agree(services: Services, tmp_path: Path) -> None:
    """Both annotators agree on two of four images: half of the pairs."""
    rows = ["file,level1,level2,annotator"]
    opinions = [("Warm", "Red", "Warm", "Red"), ("Cold", "Blue", "Cold", "Blue"), ("Warm", "Red", "Cold", "Blue")]
    opinions.append(("Cold", "Green", "Warm", "Yellow"))
    for number, (first, below_first, second, below_second) in enumerate(opinions):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(("Warm", "Red"), number))
        rows += [f"{number}.jpg,{first},{below_first},anna", f"{number}.jpg,{second},{below_second},bela"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    services.projects.update("furniture", label_config=COLOURS)
    assert "no image was labelled by two" in seen(services, "furniture")["agreement"].detail
    import_manifest(services, tmp_path / "manifest.csv", "furniture")
    check = seen(services, "furniture")["agreement"]
    # Krippendorff's alpha by hand: 4 of 8 values of each class, observed (2 + 2) / 8, expected 2 * 4 * 4 / (8 * 7)
    alpha = 1 - (4 / 8) / (32 / 56)
    assert check.status == "warn"
    assert check.detail.startswith(f"level 1: alpha {alpha:.2f}, 50% of pairs, 4 images; level 2: ")
