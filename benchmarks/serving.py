"""The measurements of the two servers over HTTP. Each function measures one side once and returns its numbers."""

from __future__ import annotations

import copy
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clients import post_all
from benchmarks.measure import memory_of, percentile
from benchmarks.peer import DATABASE
from benchmarks.servers import Server, Side, serving
from benchmarks.world import Scale, World
from taxonomist.storage.journal import Journal

CAPTURES = Path(__file__).resolve().parents[1] / "tests" / "data" / "captures.json"
LABEL_STUDIO_WAITS_S = 1.0  # for a webhook


def latency(side: Side, world: World, scale: Scale) -> dict[str, float]:
    """Return the milliseconds of a /predict with one task, one after the other: new images, then the same again."""
    with serving(side, world) as server:
        server.predict(world.config, [world.names[-1]])  # the model of ours is loaded by the first request
        names = world.names[: scale.requests]
        new = [1000 * _seconds(partial(server.predict, world.config, [name])) for name in names]
        again = [1000 * _seconds(partial(server.predict, world.config, [name])) for name in names]
    return {
        "new_p50": percentile(new, 0.50),
        "new_p95": percentile(new, 0.95),
        "again_p50": percentile(again, 0.50),
        "again_p95": percentile(again, 0.95),
    }


def throughput(side: Side, world: World, scale: Scale) -> dict[str, float]:
    """Return the tasks per second of one /predict with all tasks, new and again, and the server's memory after it."""
    names = list(world.names[: scale.tasks])
    with serving(side, world) as server:
        server.predict(world.config, [world.names[-1]])
        new = _seconds(lambda: server.predict(world.config, names))
        again = _seconds(lambda: server.predict(world.config, names))
        memory = memory_of(server.process.pid)
    return {
        "new_seconds": new,
        "new": len(names) / new,
        "again": len(names) / again,
        "memory_after": memory.pss,
    }


def webhooks(side: Side, world: World, scale: Scale) -> dict[str, float]:
    """Measure annotations from several clients at once, each sent once as Label Studio does."""
    bodies = webhook_bodies(scale.webhooks)
    with serving(side, world) as server:
        server.post("/webhook", webhook_bodies(1, first=len(bodies) + 1)[0])
        began = time.perf_counter()
        answers = post_all(server.port, "/webhook", bodies, clients=scale.clients, timeout_s=60)
        seconds = time.perf_counter() - began
        kept = kept_webhooks(side, server.folder)
    times = [answer.seconds for answer in answers if answer.ok] or [float("nan")]
    return {
        "rate": len(bodies) / seconds,
        "p50": 1000 * percentile(times, 0.50),
        "p99": 1000 * percentile(times, 0.99),
        "max": 1000 * max(times),
        "lost": len(bodies) + 1 - kept,  # one more was sent to warm up
        "late": sum(1 for answer in answers if answer.seconds > LABEL_STUDIO_WAITS_S or not answer.ok),
    }


def start(side: Side, world: World) -> dict[str, float]:
    """Return the seconds until /health answers, and the megabytes before and after the first prediction."""
    with serving(side, world) as server:
        numbers = {"seconds": server.start_s, **_memory("idle", server)}
        numbers["first_ms"] = 1000 * _seconds(lambda: server.predict(world.config, [world.names[0]]))
        numbers |= _memory("loaded", server)
    return numbers


def with_worker(world: World) -> dict[str, float]:
    """Return the megabytes of our server and its worker, both idle, after a prediction."""
    with serving("ours", world, worker=True) as server:
        server.predict(world.config, [world.names[0]])
        for _ in range(600):
            if b'"alive"' in server.get("/readyz")[1]:
                break
            time.sleep(0.1)
        memory = memory_of(server.process.pid)
    return {"worker_pss": memory.pss, "worker_processes": memory.processes}


def _memory(name: str, server: Server) -> dict[str, float]:
    memory = memory_of(server.process.pid)
    return {f"{name}_pss": memory.pss, f"{name}_rss": memory.rss, "processes": memory.processes}


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def webhook_bodies(count: int, first: int = 1) -> list[bytes]:
    """Return webhook bodies of `count` tasks, each like a recorded submission of Label Studio, about 5 kB."""
    recorded = json.loads(CAPTURES.read_text(encoding="utf-8"))
    template = next(capture["body"] for capture in recorded if capture["capture"] == "12-annotation-created")
    bodies = []
    for number in range(first, first + count):
        body = copy.deepcopy(template)
        body["annotation"] |= {"id": number, "task": number}
        body["task"] |= {"id": number, "data": {"image": f"/data/upload/1/{number:08x}-img.jpg"}}
        bodies.append(json.dumps(body).encode())
    return bodies


def kept_webhooks(side: Side, folder: Path) -> int:
    """Return how many webhooks a server has kept on the disk."""
    if side == "ours":
        return _kept_by_us(folder)
    if side == "earlier":
        return _count(
            folder / "journal.sqlite", "SELECT count(*) FROM events WHERE kind = 'annotation-saved' AND project = '1'"
        )
    return _count(folder / DATABASE, "SELECT count(*) FROM annotations")


def _kept_by_us(folder: Path) -> int:
    with Journal(folder / "journal.sqlite") as journal:
        journal.fold()
        return sum(1 for _ in journal.annotations("1"))


def _count(path: Path, query: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute(query).fetchone()
    return int(count)
