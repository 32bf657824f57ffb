"""From the command line to the server: the process of `taxonomist serve` becomes `taxonomist.backend.web.server`.

The server forks, so its process must not have loaded the modules of the command line, above all onnxruntime.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from taxonomist.backend.settings import Settings
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.storage.files import storage_errors
from taxonomist.storage.home.version_file import check_path

NO_WORKER = "--no-worker"


def become_server(settings: Settings, *, with_worker: bool) -> NoReturn:
    """Replace this process with the server. Raises `ConfigError` when others could reach it without a password, and
    for a home folder whose path is too long.

    Raises `StorageError` when the home folder cannot be made.
    """
    check_exposure(settings)
    check_path(settings.home)
    with storage_errors(settings.home):
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Server and worker load the settings again, so those that were given as options go into the environment.
    os.environ["TAXONOMIST_HOME"] = str(settings.home.resolve())
    os.environ["TAXONOMIST_HOST"], os.environ["TAXONOMIST_PORT"] = settings.host, str(settings.port)
    os.environ["TAXONOMIST_LOG_LEVEL"] = settings.log_level
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "taxonomist.backend.web.server", *([] if with_worker else [NO_WORKER])]
    os.execv(sys.executable, command)  # noqa: S606
