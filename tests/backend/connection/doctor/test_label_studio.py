"""What the doctor says of a Label Studio that does not answer. tests/e2e/test_doctor.py has a real one."""

from __future__ import annotations

from pydantic import SecretStr

from taxonomist.backend.services import Services
from tests.backend.connection.doctor.conftest import CONFIG, seen


def test_label_studio_that_is_unknown_or_away(services: Services) -> None:
    services.projects.update("4", label_config=CONFIG)
    unknown = seen(services, "4")["Label Studio"]
    assert (unknown.status, "taxonomist connect" in unknown.fix) == ("fail", True)
    services.settings.label_studio_url = "http://127.0.0.1:1"
    services.projects.update("4", api_key=SecretStr("t"))
    away = seen(services, "4")["Label Studio"]
    assert "cannot be reached" in away.detail
    assert away.fix
