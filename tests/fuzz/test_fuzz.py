"""A short fuzzing: no answer that Label Studio cannot take, whatever is sent."""

from __future__ import annotations

import pytest

from taxonomist.backend.services import Services
from tests.backend_process import BackendProcess
from tests.fuzz.run import fuzz


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_request_gets_an_answer(trained: Services) -> None:
    with BackendProcess(trained.settings.home) as backend:
        report = fuzz(trained, backend, 3000, seed=1)
        assert not report.findings, report.to_text()
        assert report.requests == 3000
        assert report.statuses[200] + report.statuses[201] >= 300
