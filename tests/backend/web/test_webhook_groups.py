"""Webhooks that wait are taken together, and what one of them provokes costs that one only."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state.project_records import ProjectRecords
from taxonomist.backend.web.app import Routes, WebhookAnswer
from taxonomist.backend.web.callers.caller import Caller
from taxonomist.backend.web.webhook_groups import THREADS, WebhookGroups
from tests.small_world import CONFIG

HERE = Caller("127.0.0.1", is_direct=True, is_browser=False, authorization=None, secret=None)
LARGE = b"x" * 70_000


@dataclass
class Taker:
    """Takes groups, each of which waits until it may go on."""

    go_on: threading.Event = field(default_factory=threading.Event)
    groups: list[list[bytes]] = field(default_factory=list)

    def __call__(self, requests: Sequence[tuple[bytes, Caller]]) -> Iterator[list[WebhookAnswer]]:
        self.groups.append([body for body, _ in requests])
        assert self.go_on.wait(30)
        if requests[0][0] == b"fails":
            raise ValueError("the store is gone")
        yield [WebhookAnswer(number, 201, {"body": len(body)}) for number, (body, _) in enumerate(requests)]


def run(take: Taker, scene: Callable[[WebhookGroups], Coroutine[Any, Any, None]]) -> None:
    """Run a scene in an event loop of its own."""
    with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(1) as own:
        try:
            own.submit(lambda: asyncio.run(scene(WebhookGroups(take, pool)))).result(30)
        finally:
            take.go_on.set()


def send(groups: WebhookGroups, *bodies: bytes) -> list[asyncio.Task[WebhookAnswer]]:
    return [asyncio.create_task(groups.answer(body, HERE)) for body in bodies]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_waits_is_taken_together_by_a_further_thread_when_one_is_late() -> None:
    take = Taker()

    async def scene(groups: WebhookGroups) -> None:
        tasks = send(groups, b"1", b"2", b"3", b"4", b"5")
        await until(lambda: len(take.groups) == 2)
        take.go_on.set()
        answers = [await task for task in tasks]
        assert [answer.content["body"] for answer in answers] == [1] * 5

    run(take, scene)
    assert take.groups == [[b"1"], [b"2", b"3", b"4", b"5"]]


def test_a_thread_that_ends_takes_what_came_meanwhile() -> None:
    take = Taker()

    async def scene(groups: WebhookGroups) -> None:
        first = send(groups, b"1")
        await until(lambda: len(take.groups) == 1)
        take.go_on.set()
        await first[0]
        assert (await send(groups, b"2")[0]).status == 201

    run(take, scene)
    assert take.groups == [[b"1"], [b"2"]]


def test_a_large_webhook_is_taken_alone() -> None:
    take = Taker()

    async def scene(groups: WebhookGroups) -> None:
        tasks = send(groups, b"1", LARGE, b"2", LARGE)
        await until(lambda: len(take.groups) == 4)
        take.go_on.set()
        await asyncio.gather(*tasks)

    run(take, scene)
    assert sorted(take.groups) == sorted([[b"1"], [LARGE], [b"2"], [LARGE]])


@pytest.mark.parametrize(("count", "repeated", "first"), [(50, 1_000, 32), (6, 12_000, 4)])
def test_number_and_bytes_of_a_group_are_limited(count: int, repeated: int, first: int) -> None:
    """Those of 32 clients, 5 kB each, are one group; of larger ones it takes 256 kB."""
    take = Taker()
    bodies = [b"%05d" % number * repeated for number in range(count)]

    async def scene(groups: WebhookGroups) -> None:
        tasks = send(groups, b"1", *bodies)
        await until(lambda: len(take.groups) == 3)
        take.go_on.set()
        await asyncio.gather(*tasks)

    run(take, scene)
    assert take.groups == [[b"1"], bodies[:first], bodies[first:]]


def test_a_group_that_fails_costs_no_later_one() -> None:
    take = Taker()
    take.go_on.set()

    async def scene(groups: WebhookGroups) -> None:
        with pytest.raises(ValueError, match="the store is gone"):
            await send(groups, b"fails")[0]
        for _ in range(2 * THREADS):
            assert (await send(groups, b"1")[0]).status == 201

    run(take, scene)


def test_a_webhook_without_a_thread_is_answered_with_an_error() -> None:
    take = Taker()
    take.go_on.set()

    async def scene(groups: WebhookGroups) -> None:
        groups._pool.shutdown()
        for task in send(groups, b"1", b"2", LARGE):
            with pytest.raises(RuntimeError, match="shutdown"):
                await asyncio.wait_for(task, 10)

    run(take, scene)


def test_no_more_threads_than_there_are_take_webhooks() -> None:
    take = Taker()

    async def scene(groups: WebhookGroups) -> None:
        tasks = send(groups, *[LARGE] * (THREADS + 2))
        await until(lambda: len(take.groups) == THREADS)
        await asyncio.sleep(0.2)
        assert len(take.groups) == THREADS
        take.go_on.set()
        await asyncio.gather(*tasks)

    run(take, scene)
    assert len(take.groups) == THREADS + 2


def annotation(id: object, **changes: object) -> bytes:
    body = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "label_config": CONFIG},
        "task": {
            "id": id,
            "data": {"image": f"https://images.example/{id}.jpg"},
            "created_at": "2026-11-20T09:00:00Z",
        },
        "annotation": {
            "id": id,
            "task": id,
            "created_at": "2026-11-20T10:00:00Z",
            "updated_at": "2026-11-20T10:00:00Z",
            "result": [],
        },
    }
    return json.dumps(body | changes).encode()


def answers(routes: Routes, *bodies: bytes) -> list[WebhookAnswer]:
    found = [answer for group in routes.take_webhooks([(body, HERE) for body in bodies]) for answer in group]
    return sorted(found, key=lambda answer: answer.number)


def test_what_is_wrong_with_a_webhook_costs_that_one_only(services: Services) -> None:
    routes = Routes(services)
    found = answers(
        routes,
        annotation(1),
        b"no JSON",
        annotation(2, project={"id": "../x"}),
        annotation(3),
        b"{}",
        annotation(4, project={"id": 1, "label_config": 5}),
        annotation(1),
    )
    assert [answer.status for answer in found] == [201, 400, 400, 201, 400, 400, 201]
    assert [answer.content.get("new") for answer in found] == [2, None, None, 2, None, None, 0]
    services.journal.fold()
    assert sorted(saved.annotation_id for saved in services.journal.annotations("1")) == ["1", "3"]


def test_a_record_that_cannot_be_read_costs_its_project_only(services: Services) -> None:
    services.projects.update("2", label_config=CONFIG)
    next((services.home / "projects").glob("2.json")).write_text("{")
    found = answers(Routes(services), annotation(1), annotation(2, project={"id": 2}), annotation(3))
    assert [answer.status for answer in found] == [201, 500, 201]


def test_a_training_is_answered_after_the_others(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.projects.update("1", label_config=CONFIG)
    training = json.dumps({"action": "START_TRAINING", "project": {"id": 1}}).encode()
    groups = Routes(services).take_webhooks([(body, HERE) for body in (training, annotation(1), annotation(2))])
    assert [[answer.number for answer in group] for group in groups] == [[1, 2], [0]]


def test_a_new_config_that_cannot_be_kept_costs_its_webhook_only(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.projects.update("1", label_config=CONFIG)
    changed = {"id": 1, "label_config": CONFIG + " "}

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(ProjectRecords, "update", fail)
    found = answers(Routes(services), annotation(1, project=changed), annotation(2))
    assert [answer.status for answer in found] == [500, 201]
    assert services.journal.pending() == 4  # the events of both are recorded


def test_what_one_caller_may_do_says_nothing_about_another(services: Services) -> None:
    services.projects.update("1", label_config=CONFIG, has_password=True)
    credentials = services.credentials
    password = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    knows = replace(HERE, authorization=f"Basic {password}")
    requests = [(annotation(1), knows), (annotation(2), HERE), (annotation(3), knows)]
    found = [answer for group in Routes(services).take_webhooks(requests) for answer in group]
    statuses = {answer.number: answer.status for answer in found}
    assert statuses == {0: 201, 1: 401, 2: 201}


def test_a_webhook_that_says_when_the_project_was_created_says_it_for_those_after_it(services: Services) -> None:
    services.projects.update("1", label_config=CONFIG)
    created = {"id": 1, "label_config": CONFIG, "created_at": "2026-11-20T08:00:00Z"}
    found = answers(Routes(services), annotation(1), annotation(2, project=created), annotation(3))
    assert [answer.status for answer in found] == [201, 201, 201]
    services.journal.fold()
    sources = {saved.annotation_id: saved.source for saved in services.journal.annotations("1")}
    assert sources["2"] == sources["3"] == services.projects.get("1").source
