"""A folder for a manifest and its images."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"
