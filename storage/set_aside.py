"""What could not be processed is set aside with its reason, so that everything else goes on.

The table is in the file of the journal, so that an event is set aside in the transaction that folds the events around
it. An item leaves the table when it works again. It is tried again on demand, by another version of the software, and
by the next starts of a worker, `MOST_TRIES` times in all.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import version

from taxonomist.storage.sqlite import Database

__all__ = ["SET_ASIDE", "Item", "ItemKind", "SetAside", "describe", "put_aside", "software_version", "take_back"]

SET_ASIDE = """
CREATE TABLE IF NOT EXISTS set_aside (
    project TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL,
    tries INTEGER NOT NULL, version TEXT NOT NULL, PRIMARY KEY (project, kind, key)) WITHOUT ROWID"""

MOST_ITEMS = 1000  # steps, or jobs, of a project; the oldest of more are dropped
MOST_TRIES = 3
_MOST_CHARACTERS = 300  # of a reason


class ItemKind(StrEnum):
    """What is set aside: an event of the journal, an image, a step of the worker for a project, or a kind of job."""

    EVENT = "event"
    IMAGE = "image"
    STEP = "step"
    JOB = "job"


@dataclass(frozen=True)
class Item:
    """Something that is set aside. `key` is the number of an event, the id of an image, or the name of a step or job.

    `since` is in seconds since 1970. `version` is the software's that tried it last.
    """

    project: str
    kind: ItemKind
    key: str
    reason: str
    since: float
    tries: int
    version: str


class SetAside:
    """The table of one journal. Every method raises `StorageError` when the file cannot be read or written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: ItemKind, project: str, key: str, reason: str) -> None:
        """Set something aside, or count another try of it."""
        with self._database.write() as connection:
            put_aside(connection, kind, project, key, reason)

    def clear(self, kind: ItemKind, project: str, keys: Collection[str]) -> None:
        """Take back what works again."""
        query = "SELECT key FROM set_aside WHERE project = ? AND kind = ? AND key IN (SELECT value FROM json_each(?))"
        with self._database.read() as connection:
            known = connection.execute(query, (project, kind.value, json.dumps(list(keys)))).fetchall()
        if known:
            with self._database.write() as connection:
                take_back(connection, kind, project, [row["key"] for row in known])

    def items(self, project: str | None = None, kind: ItemKind | None = None) -> list[Item]:
        """Return what is set aside of a project, or of all, the newest first; given a kind, only of that."""
        query = (
            "SELECT * FROM set_aside WHERE project = coalesce(?, project) AND kind = coalesce(?, kind)"
            " ORDER BY since DESC, project, kind, key"
        )
        with self._database.read() as connection:
            rows = connection.execute(query, (project, kind and kind.value)).fetchall()
        return [Item(**{**dict(row), "kind": ItemKind(row["kind"])}) for row in rows]

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many items are set aside, by project and kind."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT project, kind, count(*) FROM set_aside GROUP BY project, kind").fetchall()
        return Counter({(row[0], row[1]): row[2] for row in rows})

    def retry(self, project: str | None = None, *, at_start: bool = False) -> list[Item]:
        """Let what is set aside be tried again, and return it; with `at_start` only what a worker's start tries again.

        Events are folded and images decided by the next pulse of a worker; steps are tried by each; the caller enqueues
        jobs. An item stays in the table until it works.
        """
        items = [item for item in self.items(project) if not at_start or _is_due_at_start(item)]
        for start in range(0, len(items), 500):
            with self._database.write() as connection:
                for item in items[start : start + 500]:
                    if item.kind is ItemKind.EVENT:
                        _record_again(connection, item)
                    elif item.kind is ItemKind.IMAGE:
                        connection.execute(
                            "INSERT INTO dirty SELECT ?, ?, seq FROM folded WHERE true ON CONFLICT DO NOTHING",
                            (item.project, item.key),
                        )
        return items


def put_aside(connection: sqlite3.Connection, kind: ItemKind, project: str, key: str, reason: str) -> None:
    """Set something aside in the caller's transaction.

    Of steps and jobs the table keeps a bounded number. Events and images are as many as the journal has, and none may
    be dropped: nothing else would try it again.
    """
    connection.execute(
        "INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (project, kind, key) DO UPDATE"
        " SET reason = excluded.reason, tries = tries + 1, version = excluded.version",
        (project, kind.value, key, _storable(reason), time.time(), software_version()),
    )
    if kind in (ItemKind.EVENT, ItemKind.IMAGE):
        return
    connection.execute(
        "DELETE FROM set_aside WHERE project = ?1 AND kind = ?2 AND key IN (SELECT key FROM set_aside"
        " WHERE project = ?1 AND kind = ?2 ORDER BY since DESC, key LIMIT -1 OFFSET ?3)",
        (project, kind.value, MOST_ITEMS),
    )


def take_back(connection: sqlite3.Connection, kind: ItemKind, project: str, keys: Iterable[str]) -> None:
    """Remove items in the caller's transaction."""
    connection.executemany(
        "DELETE FROM set_aside WHERE project = ? AND kind = ? AND key = ?", [(project, kind.value, key) for key in keys]
    )


def describe(error: BaseException) -> str:
    """Return the reason why something failed: the message of our own errors, else with the name of the class."""
    text = str(error)
    own = type(error).__module__.startswith("taxonomist.")
    return text if own and text else f"{type(error).__name__}: {text}" if text else type(error).__name__


@cache
def software_version() -> str:
    """Return the version of this software."""
    return version("label-studio-taxonomist")


def _is_due_at_start(item: Item) -> bool:
    return item.version != software_version() or item.tries < MOST_TRIES


def _record_again(connection: sqlite3.Connection, item: Item) -> None:
    """Give the event a new number, so that it is folded again; the order of events does not matter."""
    number = int(item.key)
    row = connection.execute("SELECT * FROM events WHERE seq = ?", (number,)).fetchone()
    take_back(connection, item.kind, item.project, [item.key])
    if row is None:
        return  # it was forgotten
    connection.execute("DELETE FROM events WHERE seq = ?", (number,))
    new = connection.execute(
        "INSERT INTO events (key, project, kind, received_at, body) VALUES (?, ?, ?, ?, ?)",
        (row["key"], row["project"], row["kind"], row["received_at"], row["body"]),
    ).lastrowid
    connection.execute(
        "INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, ?, ?)",
        (item.project, item.kind.value, str(new), item.reason, item.since, item.tries, item.version),
    )


def _storable(text: str) -> str:
    """Return a text that a database and a terminal can hold: one line without half characters, of bounded length."""
    line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    line = line.encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
