"""A real Label Studio on loopback, started and stopped from here."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from filelock import FileLock, Timeout

from taxonomist.backend.demo.accounts import Account, first_user
from taxonomist.backend.demo.environment import Say, silent
from taxonomist.backend.demo.process import LabelStudioProcess, launch
from taxonomist.taxonomy.errors import LabelStudioError

HOST = "127.0.0.1"
DATABASE = "label_studio.sqlite3"


@dataclass
class LabelStudioServer:
    """A running Label Studio; leaving the `with` block ends it.

    `url` has no trailing slash. `owner` is the first user, an administrator with a legacy token. `log` is its output.
    """

    url: str
    owner: Account
    version: str
    data_folder: Path
    _process: LabelStudioProcess = field(repr=False)
    _lock: FileLock = field(repr=False)

    @property
    def log(self) -> Path:
        """The file with all output."""
        return self._process.log

    @property
    def running(self) -> bool:
        """Whether the server still runs."""
        return self._process.running

    def stop(self) -> None:
        """Stop the server and all its children; return when they have ended. A second call does nothing."""
        if self._lock.is_locked:
            self._process.end()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    program: Path,
    data_folder: Path,
    *,
    port: int | None = None,
    cache: Path | None = None,
    outer_url: str | None = None,
    say: Say = silent,
) -> LabelStudioServer:
    """Start the `label-studio` at `program` on loopback and wait until it answers.

    `port` is used when it is free, otherwise (or for None) any free port. Users, tasks and uploads are kept in
    `data_folder` for the next start. `cache` is a folder for an empty database with all migrations: the first start
    makes it (about two minutes), every new data folder gets a copy. `outer_url` is the address by which Label Studio
    calls itself, by default the one at which it is started.

    Raises `LabelStudioError` with the end of Label Studio's log when it ends or does not answer, and when another
    server runs on `data_folder`.
    """
    data_folder = data_folder.resolve()
    data_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data_folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LabelStudioError(f"A Label Studio is running on {data_folder} already.", hint="Stop it first.") from None
    try:
        if cache is not None and not (data_folder / DATABASE).exists():
            shutil.copyfile(empty_database(program, cache, say), data_folder / DATABASE)
        return _start(program, data_folder, port, outer_url, lock, say)
    except BaseException:
        lock.release()
        raise


def _start(
    program: Path, data_folder: Path, port: int | None, outer_url: str | None, lock: FileLock, say: Say
) -> LabelStudioServer:
    owner = first_user(data_folder / "owner.json")
    for attempt in range(3):
        chosen = port if port and attempt == 0 and is_free(port) else free_port()
        url = f"http://{HOST}:{chosen}"
        process = launch(
            program,
            *("start", "--no-browser", "--internal-host", HOST, "--port", str(chosen)),
            data_folder=data_folder,
            log=data_folder / "label-studio.log",
            settings={
                "USERNAME": owner.email,
                "PASSWORD": owner.password,
                "USER_TOKEN": owner.token,
                "HOST": outer_url or url,  # the address of itself that Label Studio gives to ML backends
            },
        )
        try:
            version = _wait(process, url, owner, say)
        except BaseException:
            process.end()
            raise
        if version is not None:
            return LabelStudioServer(url, owner, version, data_folder, process, lock)
        process.end()
    raise LabelStudioError("No port stayed free long enough to start Label Studio.", hint="Run it again.")


def _wait(process: LabelStudioProcess, url: str, owner: Account, say: Say) -> str | None:
    """Return the version that answers at `url`, or None when another process answers there.

    Label Studio uses the next port, without an error, when its own was taken meanwhile. So the server must know our
    token.
    """
    taken = f"Port {url.rpartition(':')[2]} is in use"
    with owner.client(url) as client:
        for _ in process.while_running("Label Studio is starting", say):
            if taken in process.said(200):
                return None
            with contextlib.suppress(httpx.TransportError):
                if client.get("/api/current-user/whoami").is_success:
                    return str(client.get("/api/version").json()["release"])
                if f"server at {url}" in process.said(200):
                    raise LabelStudioError(
                        f"The database in {process.log.parent} does not know the user of its owner.json.",
                        hint="Delete that folder to start again.",
                    )
    raise LabelStudioError(f"Label Studio ended before it answered.{process.said()}")


def empty_database(program: Path, cache: Path, say: Say = silent) -> Path:
    """Return a database without users and with the migrations of the installed version; make it when missing.

    Raises `LabelStudioError` with the end of Label Studio's log when it cannot be made.
    """
    installed = program.resolve().stat().st_mtime_ns  # another time: another installation, perhaps of another version
    database = cache / f"empty-{installed}.sqlite3"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        if database.exists():
            return database
        work = cache / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        doing = "Preparing Label Studio's database (about two minutes, only once)"
        say(doing)
        process = launch(program, "version", data_folder=work, log=work / "migrations.log", settings={})
        try:
            for _ in process.while_running(doing, say):
                pass
        finally:
            process.end()
        with contextlib.closing(sqlite3.connect(work / DATABASE)) as connection:
            # The mode stays in the file. Without it three annotators and a backend at once get "database is locked".
            connection.execute("PRAGMA journal_mode=wal")
        (work / DATABASE).replace(database)
        shutil.rmtree(work, ignore_errors=True)
    return database


def listen(port: int) -> socket.socket:
    """Return a listening socket of the loopback interface: on `port`, or on any other where that is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return socket.create_server((HOST, 0))


def free_port() -> int:
    """Return a port of the loopback interface that was free just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether a port of the loopback interface is free now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
