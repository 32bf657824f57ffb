"""From the command to the server: `taxonomist serve` becomes `taxonomist.backend.web.serve` instead of calling it.

The server's process forks, so it must not have loaded what the command line has, onnxruntime above all.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import check_exposure

NO_WORKER = "--no-worker"


def become_server(settings: Settings, *, with_worker: bool) -> NoReturn:
    """Replace this process by the server. Raises `ConfigError` when others could reach it without a password."""
    check_exposure(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    # Server and worker read their settings anew: those given as options must reach them.
    os.environ["TAXONOMIST_HOME"] = str(settings.home.resolve())
    os.environ["TAXONOMIST_HOST"], os.environ["TAXONOMIST_PORT"] = settings.host, str(settings.port)
    os.environ["TAXONOMIST_LOG_LEVEL"] = settings.log_level
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "taxonomist.backend.web.serve", *([] if with_worker else [NO_WORKER])]
    os.execv(sys.executable, command)  # noqa: S606
