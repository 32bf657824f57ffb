"""The job table: which jobs wait, which one runs, and how the others ended.

It survives every process. A job that was running when its worker was killed is found here at the next start and runs
again. At most one job of a kind waits for a project: enqueueing it twice changes nothing.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from taxonomist.storage.sqlite import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, project TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    asked_at REAL NOT NULL, started_at REAL, ended_at REAL, attempts INTEGER NOT NULL DEFAULT 0,
    step TEXT NOT NULL DEFAULT '', done REAL NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_waiting ON jobs (kind, project) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS by_project ON jobs (project, kind, asked_at)"""


class JobKind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    EMBED = "embed"
    SYNC = "sync"
    PUSH = "push"
    FILL = "fill"
    RENEW = "renew"
    BACKBONE = "backbone"
    PRETRAIN = "pretrain"
    ADOPT = "adopt"
    BULK = "bulk"


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


MAX_ATTEMPTS = 3  # a job that kills its worker must not do so forever


@dataclass(frozen=True)
class Job:
    """One row of the job table; times are seconds since the epoch, `done` is the share of the work in 0..1."""

    id: str
    kind: JobKind
    project: str
    state: JobState
    reason: str
    asked_at: float
    started_at: float | None
    ended_at: float | None
    attempts: int
    step: str
    done: float
    outcome: str


class JobTable:
    """Jobs in one SQLite file, shared by the server and the worker.

    Every method raises `StorageError` when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def enqueue(self, kind: JobKind, project: str = "", reason: str = "") -> Job:
        """Return the waiting job of that kind and project; a new one when none waits."""
        row = (uuid.uuid4().hex[:12], kind.value, project, JobState.WAITING.value, reason, time.time())
        with self._database.write() as db:
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
        """Mark a waiting job as running and return it; return None when it does not wait (any more)."""
        with self._database.write() as db:
            changed = db.execute(
                "UPDATE jobs SET state = 'running', started_at = ?, attempts = attempts + 1 "
                "WHERE id = ? AND state = 'waiting'",
                (time.time(), job_id),
            ).rowcount
            return _job(db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()) if changed else None

    def start_next(self, kinds: Collection[JobKind], but: Collection[tuple[JobKind, str]] = ()) -> Job | None:
        """Mark the oldest waiting job of these kinds as running and return it; None when none waits.

        Jobs whose kind and project are in `but` wait longer.
        """
        for waiting in self.waiting():
            if (
                waiting.kind in kinds
                and (waiting.kind, waiting.project) not in but
                and (started := self.start(waiting.id))
            ):
                return started
        return None

    def progress(self, job_id: str, step: str, done: float) -> None:
        """Store what a running job does now, and which share of its work (0..1) is done."""
        with self._database.write() as db:
            db.execute("UPDATE jobs SET step = ?, done = ? WHERE id = ?", (step, min(max(done, 0.0), 1.0), job_id))

    def finish(self, job_id: str, state: JobState, outcome: str) -> None:
        """Store how a job ended."""
        with self._database.write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, ended_at = ?, outcome = ?, done = CASE ? WHEN 'done' THEN 1 ELSE done END "
                "WHERE id = ?",
                (state.value, time.time(), outcome, state.value, job_id),
            )

    def requeue_interrupted(self, kinds: Collection[JobKind] = tuple(JobKind)) -> list[Job]:
        """Let jobs wait again whose process was killed while they ran. Return those that wait, or have failed, now.

        Call it only while no process runs jobs of these kinds. A job that was tried `MAX_ATTEMPTS` times fails instead.
        """
        changed: list[Job] = []
        with self._database.write() as db:
            for job in _jobs(db.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall()):
                if job.kind not in kinds:
                    continue
                if job.attempts >= MAX_ATTEMPTS:
                    outcome = f"its process died {job.attempts} times"
                    _fail(db, job, outcome)
                    changed.append(replace(job, state=JobState.FAILED, outcome=outcome))
                elif _wait_again(db, job):
                    changed.append(replace(job, state=JobState.WAITING))
        return changed

    def gave_up(self, kind: JobKind, project: str) -> bool:
        """Return whether the newest job of that kind killed its process each time: a start must not repeat it."""
        newest = next(iter(self.latest(project, kind, 1)), None)
        return newest is not None and newest.state is JobState.FAILED and newest.attempts >= MAX_ATTEMPTS

    def unreadable(self) -> list[tuple[str, str]]:
        """Return id and reason of the rows that cannot be read, as after an upgrade that was undone."""
        with self._database.read() as db:
            rows = db.execute("SELECT * FROM jobs").fetchall()
        return [(row["id"], reason) for row in rows if (reason := _problem(row))]

    def requeue(self, job_id: str) -> None:
        """Let a running job that was stopped on purpose wait again; this attempt does not count."""
        with self._database.write() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ? AND state = 'running'", (job_id,)).fetchone()
            if row and _wait_again(db, _job(row)):
                db.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job_id,))

    def get(self, job_id: str) -> Job | None:
        """Return the job with that id, None when there is none."""
        return next(iter(self._select("id = ?", (job_id,))), None)

    def waiting(self) -> list[Job]:
        """Return the jobs that wait, oldest first."""
        return self._select("state = 'waiting' ORDER BY rowid")

    def running(self, kind: JobKind) -> list[Job]:
        """Return the running jobs of that kind."""
        return self._select("state = 'running' AND kind = ?", (kind.value,))

    def latest(self, project: str, kind: JobKind | None = None, limit: int = 20) -> list[Job]:
        """Return the newest jobs of a project, newest first."""
        kinds = [kind.value] if kind else [known.value for known in JobKind]
        marks = ",".join("?" * len(kinds))
        condition = f"project = ? AND kind IN ({marks}) ORDER BY rowid DESC LIMIT ?"
        return self._select(condition, (project, *kinds, limit))

    def delete_old(self, days: float = 30) -> int:
        """Delete jobs that ended more than so many days ago; return how many."""
        with self._database.write() as db:
            return db.execute("DELETE FROM jobs WHERE ended_at < ?", (time.time() - days * 86400,)).rowcount

    def count(self, project: str) -> int:
        """Return the number of jobs of a project, whatever their state."""
        with self._database.read() as db:
            return int(db.execute("SELECT count(*) FROM jobs WHERE project = ?", (project,)).fetchone()[0])

    def forget(self, project: str) -> None:
        """Delete all jobs of a project, those that wait too."""
        with self._database.write() as db:
            db.execute("DELETE FROM jobs WHERE project = ?", (project,))
        self._database.erase_deleted()

    def _select(self, condition: str, values: tuple[object, ...] = ()) -> list[Job]:
        with self._database.read() as db:
            rows = db.execute(f"SELECT * FROM jobs WHERE {condition}", values).fetchall()  # noqa: S608
        return _jobs(rows)


def _wait_again(db: sqlite3.Connection, job: Job) -> bool:
    """Return False, and fail the job, when another one of its kind waits for the project already."""
    if db.execute(
        "SELECT 1 FROM jobs WHERE kind = ? AND project = ? AND state = 'waiting'", (job.kind, job.project)
    ).fetchone():
        _fail(db, job, "replaced by a newer one")
        return False
    db.execute("UPDATE jobs SET state = 'waiting' WHERE id = ?", (job.id,))
    return True


def _fail(db: sqlite3.Connection, job: Job, outcome: str) -> None:
    db.execute(
        "UPDATE jobs SET state = 'failed', ended_at = ?, outcome = ? WHERE id = ?", (time.time(), outcome, job.id)
    )


def _jobs(rows: Sequence[sqlite3.Row]) -> list[Job]:
    """Return the jobs of the rows that can be read; the others must not stop these."""
    return [_job(row) for row in rows if not _problem(row)]


def _problem(row: sqlite3.Row) -> str | None:
    try:
        _job(row)
    except (ValueError, TypeError) as error:
        return f"the job cannot be read: {error}"
    return None


def _job(row: sqlite3.Row) -> Job:
    return Job(**{**dict(row), "kind": JobKind(row["kind"]), "state": JobState(row["state"])})
