"""For values that may be None, where the test says that they are not."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return the value; fail where there is none."""
    assert value is not None
    return value
