"""The book of jobs: what was asked for, what runs, how it ended.

The queue (huey) only says *now*; this book is what survives. A job that was running when its worker was killed is
found here at the next start and run again. At most one job of a kind waits for a project: asking twice is asking once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taxonomist.taxonomy.errors import StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, project TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    asked_at REAL NOT NULL, started_at REAL, ended_at REAL, attempts INTEGER NOT NULL DEFAULT 0,
    step TEXT NOT NULL DEFAULT '', done REAL NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_waiting ON jobs (kind, project) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS by_project ON jobs (project, kind, asked_at);
"""


class Kind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    EMBED = "embed"
    SYNC = "sync"
    PUSH = "push"
    BACKBONE = "backbone"
    PRETRAIN = "pretrain"


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


MAX_ATTEMPTS = 3  # a job that kills its worker must not do so for ever


@dataclass(frozen=True)
class Job:
    """One row of the book; times are seconds since the epoch, `done` is the share of the work in 0..1."""

    id: str
    kind: Kind
    project: str
    state: State
    reason: str
    asked_at: float
    started_at: float | None
    ended_at: float | None
    attempts: int
    step: str
    done: float
    outcome: str


class JobBook:
    """Jobs in one SQLite file, shared by the server and the worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection().executescript(_SCHEMA)

    def ask(self, kind: Kind, project: str = "", reason: str = "") -> Job:
        """The waiting job of that kind and project; made when there is none."""
        row = (uuid.uuid4().hex[:12], kind.value, project, State.WAITING.value, reason, time.time())
        with self._transaction() as db:
            db.execute(
                "INSERT INTO jobs (id, kind, project, state, reason, asked_at) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                row,
            )
            found = db.execute(
                "SELECT * FROM jobs WHERE kind = ? AND project = ? AND state = 'waiting'", (kind.value, project)
            ).fetchone()
        return _job(found)

    def start(self, job_id: str) -> Job | None:
        """Take a waiting job to run it; None when somebody else has it, or it has ended."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = 'running', started_at = ?, attempts = attempts + 1 "
                "WHERE id = ? AND state = 'waiting'",
                (time.time(), job_id),
            ).rowcount
            return _job(db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()) if changed else None

    def progress(self, job_id: str, step: str, done: float) -> None:
        """Note what a running job is doing and which share (0..1) is done."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET step = ?, done = ? WHERE id = ?", (step, min(max(done, 0.0), 1.0), job_id))

    def end(self, job_id: str, state: State, outcome: str) -> None:
        """Note how a job ended."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, ended_at = ?, outcome = ?, done = CASE ? WHEN 'done' THEN 1 ELSE done END "
                "WHERE id = ?",
                (state.value, time.time(), outcome, state.value, job_id),
            )

    def take_back(self, kinds: Collection[Kind] = tuple(Kind)) -> list[Job]:
        """Jobs that were running when their process was killed wait again; call it where none of these kinds runs.

        A job tried `MAX_ATTEMPTS` times is given up instead. Returns the jobs that wait again.
        """
        again: list[Job] = []
        with self._transaction() as db:
            for job in [_job(row) for row in db.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall()]:
                if job.kind not in kinds:
                    continue
                if job.attempts >= MAX_ATTEMPTS:
                    _give_up(db, job, f"its process died {job.attempts} times")
                elif _wait_again(db, job):
                    again.append(job)
        return again

    def put_back(self, job_id: str) -> None:
        """A running job was stopped on purpose: it waits again, and this attempt does not count."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ? AND state = 'running'", (job_id,)).fetchone()
            if row and _wait_again(db, _job(row)):
                db.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job_id,))

    def get(self, job_id: str) -> Job | None:
        """The job with that id."""
        row = self._connection().execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row else None

    def waiting(self) -> list[Job]:
        """Jobs nobody has taken yet, oldest first."""
        rows = self._connection().execute("SELECT * FROM jobs WHERE state = 'waiting' ORDER BY asked_at").fetchall()
        return [_job(row) for row in rows]

    def running(self, kind: Kind) -> list[Job]:
        """Jobs of that kind that somebody works on."""
        rows = self._connection().execute("SELECT * FROM jobs WHERE state = 'running' AND kind = ?", (kind.value,))
        return [_job(row) for row in rows.fetchall()]

    def latest(self, project: str, kind: Kind | None = None, limit: int = 20) -> list[Job]:
        """The newest jobs of a project, newest first."""
        kinds = [kind.value] if kind else [each.value for each in Kind]
        marks = ",".join("?" * len(kinds))
        query = f"SELECT * FROM jobs WHERE project = ? AND kind IN ({marks}) ORDER BY asked_at DESC LIMIT ?"  # noqa: S608
        return [_job(row) for row in self._connection().execute(query, (project, *kinds, limit)).fetchall()]

    def forget_old(self, days: float = 30) -> int:
        """Drop ended jobs older than so many days; returns how many."""
        with self._transaction() as db:
            return db.execute("DELETE FROM jobs WHERE ended_at < ?", (time.time() - days * 86400,)).rowcount

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "db"):
            db = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._local.db = db
        connection: sqlite3.Connection = self._local.db
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(f"The book of jobs {self._path} cannot be written: {error}.") from error


def _wait_again(db: sqlite3.Connection, job: Job) -> bool:
    """False when another one of its kind waits for the project already, which does as well."""
    if db.execute(
        "SELECT 1 FROM jobs WHERE kind = ? AND project = ? AND state = 'waiting'", (job.kind, job.project)
    ).fetchone():
        _give_up(db, job, "replaced by a newer one")
        return False
    db.execute("UPDATE jobs SET state = 'waiting' WHERE id = ?", (job.id,))
    return True


def _give_up(db: sqlite3.Connection, job: Job, outcome: str) -> None:
    db.execute(
        "UPDATE jobs SET state = 'failed', ended_at = ?, outcome = ? WHERE id = ?", (time.time(), outcome, job.id)
    )


def _job(row: sqlite3.Row) -> Job:
    return Job(**{**dict(row), "kind": Kind(row["kind"]), "state": State(row["state"])})
