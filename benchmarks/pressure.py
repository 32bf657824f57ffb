"""Webhooks while everything else goes wrong at once: silent and trickling clients, a hanging image host, a training."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from benchmarks.clients import HOST, post_all
from benchmarks.measure import percentile
from benchmarks.servers import Server, Side, serving
from benchmarks.serving import LABEL_STUDIO_WAITS_S, kept_webhooks, webhook_bodies
from benchmarks.world import PROJECT, Scale, World

_TRICKLE = (
    b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
)


def pressure(side: Side, world: World, scale: Scale) -> dict[str, float]:
    """Measure webhooks beside clients that send nothing or a byte at a time, predictions that wait for a host that
    never answers, a prediction of new images and a training. The peer has neither hanging host nor training.

    A webhook without a good answer within two seconds is given up.
    """
    ours = side == "ours"
    with ExitStack() as stack:
        host = stack.enter_context(_hanging_host())
        # Another seed than that of the served model: otherwise there would be nothing new to train.
        settings = {"ALLOWED_IMAGE_HOSTS": host, "ALLOW_PRIVATE": "true", "SEED": "1"}
        server = stack.enter_context(serving(side, world, worker=ours, settings=settings))
        send = partial(post_all, server.port, "/webhook", clients=scale.clients, timeout_s=2 * LABEL_STUDIO_WAITS_S)
        send(webhook_bodies(1, first=10 * scale.webhooks))
        stack.enter_context(_slow_clients(server.port, scale.slow_clients))
        if ours:
            server.post("/train", json.dumps({"project": PROJECT}).encode())
            stack.enter_context(_predictions(server, world, [f"http://{host}/{n}.jpg" for n in range(8)], 8))
        stack.enter_context(_predictions(server, world, list(world.names[: scale.tasks]), 1))
        bodies = webhook_bodies(scale.pressed if ours else scale.clients)
        began = time.perf_counter()
        answers = send(bodies)
        seconds = time.perf_counter() - began
        health = _health_s(server)
        kept = kept_webhooks(side, server.folder)
    good = sum(answer.ok for answer in answers)
    times = [answer.seconds for answer in answers]
    return {
        "rate": good / seconds,
        "p50": 1000 * percentile(times, 0.5),
        "p99": 1000 * percentile(times, 0.99),
        "max": 1000 * max(times),
        "late": 100 * sum(answer.seconds > LABEL_STUDIO_WAITS_S or not answer.ok for answer in answers) / len(answers),
        "lost": max(0, good + 1 - kept),
        "health": 1000 * health,
    }


def _health_s(server: Server) -> float:
    began = time.perf_counter()
    with suppress(OSError):
        server.get("/health", timeout=10)
    return time.perf_counter() - began


@contextmanager
def _hanging_host() -> Iterator[str]:
    """Yield "host:port" of a server that takes every connection and never says anything."""
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        yield f"{HOST}:{listener.getsockname()[1]}"


@contextmanager
def _slow_clients(port: int, count: int) -> Iterator[None]:
    """Keep `count` silent connections, and as many that send a byte each second; closed ones are opened again."""
    stopped = threading.Event()

    def keep(trickles: bool) -> None:
        clients: list[socket.socket] = []
        while not stopped.is_set():
            while len(clients) < count and not stopped.is_set():
                with suppress(OSError):
                    clients.append(socket.create_connection((HOST, port), timeout=1))
                    if trickles:
                        clients[-1].sendall(_TRICKLE)
            for client in list(clients):
                try:
                    client.setblocking(False)
                    if trickles:
                        client.send(b" ")
                    if client.recv(4096) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    pass
                except OSError:
                    client.close()
                    clients.remove(client)
            stopped.wait(1)
        for client in clients:
            client.close()

    threads = [threading.Thread(target=keep, args=(trickles,)) for trickles in (False, True)]
    for thread in threads:
        thread.start()
    time.sleep(2)  # until all of them are there
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@contextmanager
def _predictions(server: Server, world: World, names: list[str], clients: int) -> Iterator[None]:
    """Ask for a prediction of these images, from several clients and again and again, until the block ends."""
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            with suppress(OSError, RuntimeError, ValueError):
                server.predict(world.config, names)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        stopped.set()
