"""The server process: gunicorn with the application, and the worker's supervisor beside it.

The master process forks, so it must not have loaded onnxruntime, whose threads do not survive a fork: only the forked
process imports the application, and `taxonomist serve` becomes this module instead of calling it.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from taxonomist.backend.logs import set_up_logging
from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.web.start_server import NO_WORKER
from taxonomist.backend.worker.supervisor import start_supervisor


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, *, with_worker: bool) -> None:
        self.settings_of_app = settings
        self.with_worker = with_worker
        self.supervisor: subprocess.Popen[bytes] | None = None
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
        # The forked process alone: onnxruntime's threads do not survive a fork.
        from taxonomist.backend.web.front import create_front  # noqa: PLC0415 - brings onnxruntime

        return create_front(self.settings_of_app)

    def _start_supervisor(self, _arbiter: object) -> None:
        if self.with_worker:
            self.supervisor = start_supervisor()

    def _end_supervisor(self, _arbiter: object) -> None:
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait(timeout=30)


if __name__ == "__main__":
    settings = load_settings()
    set_up_logging(settings.log_level)
    _Server(settings, with_worker=NO_WORKER not in sys.argv).run()
