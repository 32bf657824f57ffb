"""Faults on the way to Blob Storage, and how patient the tests are with them."""

from __future__ import annotations

from collections.abc import Callable

from taxonomist.storage.azure.retry_policy import RetryPolicy
from tests.fault_proxy import Fault, Request

RETRY_POLICY = RetryPolicy(total_s=2.0, attempt_s=0.6, first_pause_s=0.05, longest_pause_s=0.2)
TIMEOUT_S = 1.5
SLACK_S = 1.0
DATA = bytes(range(256)) * 400

PASSING = {
    "throttled": Fault(status=429, headers={"Retry-After": "1"}),
    "busy": Fault(status=503),
    "broken": Fault(status=500),
    "reset": Fault(reset=True),
    "lost answer": Fault(lose=True),
    "cut": Fault(cut=1000),
    "slow answer": Fault(late=30.0),
    "slow server": Fault(delay=30.0),
    "trickle": Fault(trickle=(1000, 0.2)),
}


def once(fault: Fault, wanted: Callable[[Request], bool] = lambda request: True) -> Callable[[Request], Fault | None]:
    """Return a rule with the fault for the first matching request, and none for all others."""
    left = [fault]
    return lambda request: left.pop() if left and wanted(request) else None


def always(fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault


def is_write_of(name: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and name in request.path
