"""Tests of the backend run on settings of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_settings(no_settings_from_outside: None) -> None:
    pass
