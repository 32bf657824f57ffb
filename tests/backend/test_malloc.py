"""Memory that is free goes back to the system, also from below what is still in use."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys

import pytest
from uvicorn_worker import UvicornWorker

from taxonomist.backend.web import connection
from taxonomist.backend.web.connection import Worker
from tests.coroutines import run_coroutine

PROGRAM = """
import ctypes, os
from taxonomist.backend.malloc import give_back

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(10_000) for _ in range(5_000)]
for block in blocks:
    ctypes.memset(block, 1, 10_000)
for block in blocks[:-1]:  # the last one holds the end of malloc's memory fast
    libc.free(block)
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is below")
def test_free_pages_below_what_is_kept_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 40


def test_the_server_gives_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def notify(_worker: UvicornWorker) -> None:
        pass

    given: list[int] = []
    monkeypatch.setattr(UvicornWorker, "callback_notify", notify)
    monkeypatch.setattr(connection, "give_back", lambda: given.append(1))
    worker = object.__new__(Worker)
    worker.ppid = os.getppid()

    async def two_seconds() -> None:
        await worker.callback_notify()
        await worker.callback_notify()
        await asyncio.get_running_loop().shutdown_default_executor()

    run_coroutine(two_seconds())
    assert given == [1]
