"""The server process: gunicorn around the application, with the worker's supervisor beside it."""

from __future__ import annotations

import logging
import os
import subprocess
from typing import Any

from gunicorn.app.base import BaseApplication

from backend.app import create_app
from backend.auth import check_exposure
from backend.settings import Settings
from backend.supervisor import start_supervisor

log = logging.getLogger(__name__)


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
            "worker_class": "gthread",
            "threads": settings.threads,
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
        return create_app(self.settings_of_app)

    def _start_supervisor(self, _arbiter: object) -> None:
        if self.with_worker:
            self.supervisor = start_supervisor()

    def _end_supervisor(self, _arbiter: object) -> None:
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait(timeout=30)


def serve(settings: Settings, *, with_worker: bool = True) -> None:
    """Serve until stopped. Raises `ConfigError` when others could reach the server without a password."""
    check_exposure(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    # The worker is a process of its own: it reads the same settings, so those given as options must reach it.
    os.environ["TAXONOMIST_HOME"] = str(settings.home.resolve())
    os.environ["TAXONOMIST_HOST"], os.environ["TAXONOMIST_PORT"] = settings.host, str(settings.port)
    _Server(settings, with_worker=with_worker).run()
