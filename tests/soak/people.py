"""The clients of the soak: people who label, and Label Studio, which asks for predictions. They record each answer."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from taxonomist.taxonomy.paths import TaxonomyPath
from tests.label_studio_stand_in import StandIn
from tests.small_world import CONFIG, PATHS

LABEL_STUDIO_WAITS_S = 1.0
NODES = {path[:depth] for path in PATHS for depth in (1, 2)}


@dataclass(frozen=True)
class Sent:
    """A webhook about an annotation: the path that it has from then on, None once it is deleted."""

    path: TaxonomyPath | None
    answered: bool


@dataclass
class Record:
    """What was sent and answered. `webhooks` are those of each annotation in the order in which they were sent."""

    webhooks: dict[tuple[int, int], list[Sent]] = field(default_factory=lambda: defaultdict(list))  # by project and id
    tasks: dict[tuple[int, int], int] = field(default_factory=dict)  # the task of an annotation
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acceptable(self, key: tuple[int, int]) -> set[TaxonomyPath | None]:
        """Return what an annotation may be now: as the last answered webhook says, or one that came after it."""
        sent = self.webhooks[key]
        last = max((number for number, webhook in enumerate(sent) if webhook.answered), default=-1)
        return {webhook.path for webhook in sent[max(last, 0) :]} | ({None} if last < 0 else set())


class Person:
    """Labels the tasks of one project that belong to this person: one annotation a task, changed or deleted later."""

    def __init__(self, label_studio: StandIn, tasks: list[int], number: int, record: Record, url: str, seed: int):
        self._label_studio = label_studio
        self._tasks = tasks
        self._number = number
        self._record = record
        self._url = url
        self._random = random.Random(seed)
        self._own: dict[int, int] = {}  # the annotation of a task
        self._next = 1_000_000 * number

    def label(self, client: httpx.Client) -> None:
        """Create, change or delete an annotation: first in Label Studio, then by one webhook that is sent once."""
        task = self._random.choice(self._tasks)
        id = self._own.get(task)
        path = self._random.choice(PATHS)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        action = "ANNOTATION_CREATED" if id is None else "ANNOTATION_UPDATED"
        if id is not None and self._random.random() < 0.2:
            body: dict[str, Any] = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": id}]}
            with self._label_studio.lock:
                body["project"] = self._label_studio.project()
                del self._label_studio.annotations[id], self._own[task]
            self._send(client, id, task, body, None)
            return
        with self._label_studio.lock:
            if id is None:
                self._next += 1
                id = self._own[task] = self._next
            created = self._label_studio.annotations.get(id, {}).get("created_at", now)
            self._label_studio.annotate(id, task, self._number, list(path), created_at=created, updated_at=now)
            body = self._label_studio.webhook(action, id)
        self._send(client, id, task, body, path)

    def _send(self, client: httpx.Client, id: int, task: int, body: dict[str, Any], path: TaxonomyPath | None) -> None:
        status = _status(lambda: client.post(f"{self._url}/webhook", json=body, timeout=LABEL_STUDIO_WAITS_S))
        key = (self._label_studio.number, id)
        with self._record.lock:
            self._record.tasks[key] = task
            self._record.webhooks[key].append(Sent(path, status.startswith("2")))
            self._record.answers[f"webhook {status}"] += 1


def ask_for_predictions(client: httpx.Client, url: str, record: Record, seed: int, images: int) -> None:
    """Send one /predict; a good answer must be a whole one."""
    chosen = random.Random(seed).sample(range(images), 3)
    tasks = [{"id": number, "data": {"image": f"{number:04d}.jpg"}} for number in chosen]
    body = {"tasks": tasks, "label_config": CONFIG, "project": "shop", "params": {}}
    answer: list[httpx.Response] = []

    def post() -> httpx.Response:
        answer.append(client.post(f"{url}/predict", json=body, timeout=20))
        return answer[-1]

    status = _status(post)
    with record.lock:
        record.answers[f"predict {status}"] += 1
        if status.startswith("2") and (fault := _fault(answer[-1], len(tasks))):
            record.findings.append(f"half served: {fault}: {answer[-1].text[:500]}")
        elif status == "500":
            record.findings.append(f"/predict answered 500: {answer[-1].text[:500]}")


def _fault(answer: httpx.Response, tasks: int) -> str:
    try:
        results = answer.json()["results"]
        if len(results) != tasks:
            return f"{len(results)} results for {tasks} tasks"
        for result in results:
            if not 0 <= result.get("score", 0) <= 1:
                return "a score out of range"
            for region in result.get("result", ()):
                if any(
                    tuple(path) not in {p[:n] for p in PATHS for n in (1, 2)} for path in region["value"]["taxonomy"]
                ):
                    return "a path that the taxonomy lacks"
    except (ValueError, KeyError, TypeError) as error:
        return f"not an answer ({error!r})"
    return ""


def _status(call: Callable[[], httpx.Response]) -> str:
    try:
        return str(call().status_code)
    except httpx.TimeoutException:
        return "in time: none"
    except httpx.TransportError:
        return "none"


@contextmanager
def repeated(work: Callable[[httpx.Client], None], pause_s: float) -> Iterator[None]:
    """Call `work` again and again in a thread while the block runs. Raises what it raised."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        with httpx.Client(trust_env=False) as client:
            while not stopped.wait(pause_s):
                try:
                    work(client)
                except BaseException as error:
                    errors.append(error)
                    return

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def troubled(label_studio: StandIn, seed: int) -> Iterator[None]:
    """Let Label Studio be slow, gone and back while the block runs, each for some seconds."""
    chance = random.Random(seed)
    state = "well"

    def refuse(_method: str, _path: str) -> int | None:
        if state == "slow":
            time.sleep(chance.uniform(0.5, 3))
        return {"gone": 503, "broken": 500}.get(state)

    def change(_client: httpx.Client) -> None:
        nonlocal state
        state = chance.choice(["well", "well", "slow", "gone", "broken"])
        time.sleep(chance.uniform(1, 5))

    label_studio.refuse = refuse
    try:
        with repeated(change, 0.01):
            yield
    finally:
        label_studio.refuse = lambda method, path: None
