"""A short soak: what was answered is kept while everything else is killed, stopped, full or gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import soak, to_text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    report = soak(tmp_path / "soak", 25, every=1.5, seed=1)
    assert not report.findings, to_text(report)
    assert sum(report.kills.values()) >= 5
    assert report.answers["webhook 201"] >= 100
    assert report.answers["predict 200"] >= 5
