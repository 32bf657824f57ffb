"""Slows down callers that try passwords.

The answer to a failed password is delayed in the event loop, so no thread waits. A caller has a limited number of
passwords on trial at a time; further ones are not even compared. A password that is repeated tells its sender nothing
and takes no place, so that one project of a Label Studio with an old password does not hinder its other projects.
"""

from __future__ import annotations

import ipaddress
import time
from asyncio import sleep
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from taxonomist.backend.web.callers.caller import Caller

FREE = 5  # failures that are answered at once
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 0.8  # Label Studio awaits the answer to a webhook for a second
FORGOTTEN_AFTER_S = 900.0
MOST_ON_TRIAL = 8
MOST_CALLERS = 1000


@dataclass
class _Failures:
    count: int = 0
    last: float = 0.0
    on_trial: Counter[int] = field(default_factory=Counter)  # by the hash of a password, the answers that wait


class FailedPasswords:
    """The callers whose passwords failed, at most `MOST_CALLERS`. It belongs to one event loop."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, _Failures] = OrderedDict()

    def must_wait(self, caller: Caller) -> bool:
        """Return whether a caller has too many passwords on trial for another one."""
        if not _sends_one(caller):
            return False
        failures = self._callers.get(_machine(caller))
        return (
            failures is not None and len(failures.on_trial) >= MOST_ON_TRIAL and _sent(caller) not in failures.on_trial
        )

    async def slow_down(self, caller: Caller) -> None:
        """Count a refused caller that sent a password or a secret, and wait before it gets its answer."""
        if not _sends_one(caller):
            return
        failures, sent = self._counted(_machine(caller)), _sent(caller)
        if failures.count <= FREE:
            return
        failures.on_trial[sent] += 1
        try:
            await sleep(min(FIRST_DELAY_S * 2 ** min(failures.count - FREE - 1, 10), LONGEST_DELAY_S))
        finally:
            failures.on_trial[sent] -= 1
            if not failures.on_trial[sent]:
                del failures.on_trial[sent]

    def _counted(self, machine: str) -> _Failures:
        now = time.monotonic()
        failures = self._callers.setdefault(machine, _Failures())
        if now - failures.last > FORGOTTEN_AFTER_S:
            failures.count = 0
        failures.count, failures.last = failures.count + 1, now
        self._callers.move_to_end(machine)
        while len(self._callers) > MOST_CALLERS:
            self._callers.popitem(last=False)
        return failures


def _machine(caller: Caller) -> str:
    """Return the caller's address; of IPv6 the network, all of which one machine may have."""
    try:
        ip = ipaddress.ip_address(caller.address.partition("%")[0])
    except ValueError:
        return caller.address[:100]
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _sends_one(caller: Caller) -> bool:
    return caller.authorization is not None or caller.secret is not None


def _sent(caller: Caller) -> int:
    return hash((caller.authorization, caller.secret))
