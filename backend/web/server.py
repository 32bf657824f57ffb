"""The server process: gunicorn with the application, and the worker's supervisor beside it.

The master process forks, so it must not have loaded onnxruntime, whose threads do not survive a fork: only the forked
process imports the application, and `taxonomist serve` becomes this module instead of calling it.
"""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import time
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from taxonomist.backend.logs import set_up_logging
from taxonomist.backend.malloc import limit_arenas
from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.web.start_server import NO_WORKER
from taxonomist.backend.worker.supervisor import start_supervisor

log = logging.getLogger(__name__)

COLLECT_AFTER = 5_000  # new objects, Python's is 700: webhooks are many small ones, which seldom form cycles
SWITCH_S = 0.002  # Python's is more than twice that: webhooks pass from thread to thread, beside others that embed
RESTART_S = 5.0  # between two supervisors


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, *, with_worker: bool) -> None:
        self.settings_of_app = settings
        self.with_worker = with_worker
        self.supervisor: subprocess.Popen[bytes] | None = None
        self._supervisor_started = -RESTART_S
        super().__init__()

    def load_config(self) -> None:
        settings = self.settings_of_app
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        chosen: dict[str, Any] = {
            "bind": f"{host}:{settings.port}",
            "workers": 1,
            "worker_class": "taxonomist.backend.web.connection.Worker",
            "timeout": 300,  # a request may embed many new images; a hung worker is still replaced
            "graceful_timeout": 30,
            "keepalive": 5,
            "accesslog": None,
            "loglevel": settings.log_level.lower(),
            "proc_name": "taxonomist",
            "control_socket_disable": True,  # known to newer gunicorns only, hence the check below
            "on_starting": self._start_supervisor,
            "on_exit": self._end_supervisor,
        }
        for name, value in chosen.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        sys.setswitchinterval(SWITCH_S)
        limit_arenas()
        # The forked process alone: onnxruntime's threads do not survive a fork.
        from taxonomist.backend.web.front import create_front  # noqa: PLC0415 - brings onnxruntime

        front = create_front(self.settings_of_app)
        gc.freeze()  # what was loaded stays: going through it took webhooks 50 ms now and then
        gc.set_threshold(COLLECT_AFTER)
        return front

    def run(self) -> None:
        _Master(self).run()

    def keep_supervisor(self) -> None:
        """Start the supervisor where none runs: the first one, and another one after it was killed."""
        now = time.monotonic()
        if not self.with_worker or (self.supervisor is not None and self.supervisor.poll() is None):
            return
        if now - self._supervisor_started < RESTART_S:
            return
        if self.supervisor is not None:
            log.error("the worker's supervisor has ended; another one starts")
        self._supervisor_started = now
        self.supervisor = start_supervisor()

    def _start_supervisor(self, _arbiter: object) -> None:
        self.keep_supervisor()

    def _end_supervisor(self, _arbiter: object) -> None:
        self.with_worker = False
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.send_signal(signal.SIGCONT)  # one that was stopped
            self.supervisor.wait(timeout=30)


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master process, which looks after the supervisor, too."""

    def manage_workers(self) -> None:
        """Do what is to be done about once a second."""
        super().manage_workers()
        self.app.keep_supervisor()


if __name__ == "__main__":
    settings = load_settings()
    set_up_logging(settings.log_level)
    _Server(settings, with_worker=NO_WORKER not in sys.argv).run()
