"""Webhooks that wait for a thread are taken by the next one together, since they then share a commit and its costs.

One thread is at work: two that parse would only wait for each other. Further ones help when it is late, for example
while it compares a large labelling config. A large webhook is taken alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from taxonomist.backend.web.app import WebhookAnswer
from taxonomist.backend.web.callers.caller import Caller

Take = Callable[[Sequence[tuple[bytes, Caller]]], Iterator[list[WebhookAnswer]]]

THREADS = 8
_AT_WORK = 1
_LATE_S = 0.03  # for a group of small webhooks
_LARGE_BYTES = 64 * 1024
_MOST = 32  # webhooks of a group: those of as many clients, or some would wait for another group
_MOST_BYTES = 256 * 1024


@dataclass(frozen=True)
class _Waiting:
    body: bytes
    caller: Caller
    answer: asyncio.Future[WebhookAnswer]


class WebhookGroups:
    """The webhooks that wait, and the threads that take them. It belongs to one event loop, but for its threads."""

    def __init__(self, take: Take, pool: ThreadPoolExecutor) -> None:
        self._take = take
        self._pool = pool
        self._waiting: deque[_Waiting] = deque()
        self._at_work = 0
        self._began = 0.0  # when a thread took webhooks last
        self._alarm: asyncio.TimerHandle | None = None

    async def answer(self, body: bytes, caller: Caller) -> WebhookAnswer:
        """Return the answer to a webhook, once it is on the disk."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(body, caller, loop.create_future())
        self._waiting.append(waiting)
        self._start(loop)
        return await waiting.answer

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let threads take what waits, as far as they are to."""
        while self._waiting and self._at_work < THREADS:
            now = loop.time()
            if self._at_work >= _AT_WORK and now < self._began + _LATE_S:
                if self._alarm is None:
                    self._alarm = loop.call_at(self._began + _LATE_S, self._ring, loop)
                return
            self._at_work, self._began = self._at_work + 1, now
            group = self._next()
            try:
                self._pool.submit(self._work, loop, group)
            except RuntimeError as error:  # no thread can be started, or the server is being stopped
                self._close(group, error)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        self._start(loop)

    def _next(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        size = len(group[0].body)
        while self._waiting and len(group) < _MOST and len(group[0].body) <= _LARGE_BYTES:
            following = len(self._waiting[0].body)
            if following > _LARGE_BYTES or size + following > _MOST_BYTES:
                break
            size += following
            group.append(self._waiting.popleft())
        return group

    def _work(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Waiting]) -> None:
        """Take a group in a thread."""
        error: BaseException | None = None
        try:
            for answers in self._take([(waiting.body, waiting.caller) for waiting in group]):
                loop.call_soon_threadsafe(self._give, group, answers)
        except BaseException as failure:
            error = failure
        loop.call_soon_threadsafe(self._end, loop, group, error)

    def _give(self, group: Sequence[_Waiting], answers: Sequence[WebhookAnswer]) -> None:
        for answer in answers:
            future = group[answer.number].answer
            if not future.done():  # the server is being stopped
                future.set_result(answer)

    def _end(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Waiting], error: BaseException | None) -> None:
        self._close(group, error)
        self._start(loop)

    def _close(self, group: Sequence[_Waiting], error: BaseException | None) -> None:
        self._at_work -= 1
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(error or RuntimeError("A webhook got no answer."))
