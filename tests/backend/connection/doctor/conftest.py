"""The doctor without a real Label Studio."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from werkzeug.serving import make_server

from taxonomist.backend.connection.doctor import Check, run_checks
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.web.app import create_app
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.label_config import parse_label_config

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
    """Services whose URL is answered by our application."""
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


@pytest.fixture(autouse=True)
def own_network(no_network_variables: None) -> None:
    """What this machine's environment says of certificates and proxies does not count."""
