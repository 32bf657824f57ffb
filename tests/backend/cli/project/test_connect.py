"""`taxonomist connect` on a project that was connected before."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from taxonomist.backend.connection.connect import webhook_address
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from tests.backend.cli.conftest import Run
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG


@pytest.fixture
def former(services: Services) -> StandIn:
    """A Label Studio that revoked the token with which project 4 was connected; it accepts the token "new"."""
    label_studio = StandIn()
    label_studio.tokens = {"new"}
    label_studio.introduce_itself()
    del label_studio.answers["/api/ml"], label_studio.answers["/api/webhooks"]
    label_studio.answers["/api/projects/4/validate"] = {}
    url = services.settings.url
    label_studio.ml_backends[8] = {"id": 8, "project": 4, "url": url, "title": "taxonomist-v0"}
    label_studio.webhooks[9] = {"id": 9, "project": 4, "url": webhook_address(services.settings), "headers": {}}
    services.projects.update("4", label_config=CONFIG, label_studio_url=label_studio.url, api_key=SecretStr("revoked"))
    return label_studio


def test_a_revoked_token_is_replaced_by_that_of_the_environment(
    run: Run, services: Services, former: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the error of the revoked token says."""
    with former:
        code, _, err = run("connect", "--project", "4", "--yes", "--annotators", "1")
        assert code != 0
        assert "TAXONOMIST_LABEL_STUDIO_API_KEY" in err
        monkeypatch.setenv("TAXONOMIST_LABEL_STUDIO_API_KEY", "new")
        code, _, err = run("connect", "--project", "4", "--yes", "--annotators", "1")
        assert (code, "the other one that is known is used" in err) == (0, True)
    record = services.projects.get("4")
    assert record.api_key is not None
    assert record.api_key.get_secret_value() == "new"
    assert [job.kind for job in services.jobs.waiting()] == [JobKind.SYNC]
