"""What the doctor says of this machine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import BACKBONE, Services
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import ensure_starter
from tests.backend.connection.doctor.conftest import seen


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


def test_a_better_starter_ships(services: Services) -> None:
    with services.registry.stage(BACKBONE) as folder:
        (folder / BACKBONE_FILE).write_bytes(b"of an earlier release")
        manifest = {"kind": "backbone", "architecture": "resnet18", "size": 80, "dimension": 512, "starter": True}
        earlier = services.registry.publish(BACKBONE, folder, manifest)
    services.registry.promote(BACKBONE, earlier.version)
    check = seen(services)["backbone"]
    assert (check.status, check.fix.partition(",")[0]) == ("warn", "taxonomist backbone adopt starter")
    assert prepare_backbone(services) == earlier  # it stays, also for new projects
    services.registry.promote(BACKBONE, ensure_starter(services.registry, BACKBONE).version)
    assert seen(services)["backbone"].status == "ok"


def test_a_worker_that_died(services: Services) -> None:
    services.settings.home.mkdir(parents=True)
    (services.settings.home / "worker.json").write_text(json.dumps({"at": time.time() - 7300, "pid": 1}))
    worker = seen(services)["worker"]
    assert worker.status == "fail"
    assert worker.detail == "its last heartbeat was 2 hours ago"


def test_a_heartbeat_from_the_future_is_none(services: Services) -> None:
    """The worker died while its clock was ahead; until that time it would seem to live."""
    services.settings.home.mkdir(parents=True, exist_ok=True)
    (services.settings.home / "worker.json").write_text(json.dumps({"at": time.time() + 7300, "pid": 1}))
    assert seen(services)["worker"].status == "fail"
    (services.settings.home / "worker.json").write_text(json.dumps({"at": time.time() + 5, "pid": 1}))
    assert seen(services)["worker"].status == "ok"


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
