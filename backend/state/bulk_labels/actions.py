"""Actions that label many tasks at once: who, when, which label, and what became of each task.

An action is proposed first, with its tasks. It is kept before anything is written to Label Studio, so that one that was
interrupted can be continued or undone. The newest `MOST_ACTIONS` of a project are kept.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.paths import TaxonomyPath

FILE = "bulk-labels.sqlite"
MOST_ACTIONS = 200  # of a project
MOST_PROPOSALS = 20
PROPOSED_S = 86_400.0  # how long a proposal waits for a confirmation
_SCHEMA = """
CREATE TABLE IF NOT EXISTS actions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, person INTEGER NOT NULL,
    who TEXT NOT NULL, at REAL NOT NULL, labels TEXT NOT NULL, result TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS actions_project ON actions (project, number);
CREATE TABLE IF NOT EXISTS items (
    action TEXT NOT NULL, task INTEGER NOT NULL, image TEXT NOT NULL, state TEXT NOT NULL, annotation INTEGER,
    updated_at TEXT, problem TEXT NOT NULL, PRIMARY KEY (action, task)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_image ON items (image);
CREATE TRIGGER IF NOT EXISTS items_of_deleted AFTER DELETE ON actions BEGIN
    DELETE FROM items WHERE action = OLD.id; END"""


class ActionState(StrEnum):
    """Where an action stands."""

    PROPOSED = "proposed"
    WRITING = "writing"
    WRITTEN = "written"
    UNDOING = "undoing"
    UNDONE = "undone"


class ItemState(StrEnum):
    """What became of a task.

    `OWN`: the person had labelled it already. `KEPT`: the annotation was changed since, so an undo leaves it. `GONE`:
    it was deleted elsewhere. `LEFT`: the action was undone before it was written.
    """

    WAITING = "waiting"
    WRITTEN = "written"
    OWN = "own"
    FAILED = "failed"
    REMOVED = "removed"
    KEPT = "kept"
    GONE = "gone"
    LEFT = "left"


@dataclass(frozen=True)
class BulkItem:
    """A task of an action, and the id of its image.

    `annotation` is the number of what was written, `updated_at` its time as Label Studio has it. `problem` says why
    nothing was written.
    """

    task: int
    image_id: str
    state: ItemState = ItemState.WAITING
    annotation: int | None = None
    updated_at: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class BulkAction:
    """One action. `person` is the number of the annotator in Label Studio, `who` their e-mail address.

    `labels` has a path for each control that is answered, `result` the same as Label Studio's regions, whose ids no
    other action has. `counts` are the tasks by what became of them.
    """

    id: str
    project: str
    person: int
    who: str
    at: datetime
    labels: Mapping[str, TaxonomyPath]
    result: Sequence[Mapping[str, Any]]
    state: ActionState
    counts: Mapping[ItemState, int]

    @property
    def is_running(self) -> bool:
        """Whether something is still to be written, or to be removed."""
        return self.state in {ActionState.WRITING, ActionState.UNDOING}

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return sum(self.counts.values())


class BulkActions:
    """The actions in a home folder. Every method raises `StorageError` when the file cannot be read or written."""

    def __init__(self, home: Path) -> None:
        self._database = Database(home / FILE, _SCHEMA)

    def propose(self, action: BulkAction, items: Sequence[BulkItem]) -> None:
        """Keep what an action would write. Proposals that no person has confirmed go after a day."""
        fields = (json.dumps(action.labels), json.dumps(action.result), action.state)
        with self._database.write() as db:
            self._trim(db, action.project)
            db.execute(
                "INSERT INTO actions (id, project, person, who, at, labels, result, state)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (action.id, action.project, action.person, action.who, action.at.timestamp(), *fields),
            )
            db.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", [_row(action.id, item) for item in items])

    def _trim(self, db: sqlite3.Connection, project: str) -> None:
        db.execute(
            "DELETE FROM actions WHERE project = ?1 AND state = 'proposed' AND (at < ?2 OR number NOT IN ("
            " SELECT number FROM actions WHERE project = ?1 AND state = 'proposed' ORDER BY number DESC LIMIT ?3))",
            (project, time.time() - PROPOSED_S, MOST_PROPOSALS - 1),
        )
        db.execute(
            "DELETE FROM actions WHERE project = ?1 AND state IN ('written', 'undone') AND number NOT IN ("
            " SELECT number FROM actions WHERE project = ?1 AND state <> 'proposed' ORDER BY number DESC LIMIT ?2)",
            (project, MOST_ACTIONS),
        )

    def move(self, project: str, action: str, state: ActionState, *, of: Collection[ActionState]) -> bool:
        """Bring an action into a state; return False, and change nothing, when it is in none of the states `of`."""
        with self._database.write() as db:
            return bool(
                db.execute(
                    "UPDATE actions SET state = ? WHERE id = ? AND project = ?"
                    " AND state IN (SELECT value FROM json_each(?))",
                    (state, action, project, json.dumps(list(of))),
                ).rowcount
            )

    def get(self, project: str, action: str) -> BulkAction | None:
        """Return an action of a project, None for one that is not kept."""
        return next(iter(self._select("id = ? AND project = ?", (action, project))), None)

    def running(self, project: str) -> list[BulkAction]:
        """Return the actions of which something is still to be done, oldest first."""
        return self._select("project = ? AND state IN ('writing', 'undoing') ORDER BY number", (project,))

    def latest(self, project: str, limit: int = 50) -> list[BulkAction]:
        """Return the newest actions of a project that a person has confirmed, newest first."""
        return self._select("project = ? AND state <> 'proposed' ORDER BY number DESC LIMIT ?", (project, limit))

    def items(self, action: str, states: Collection[ItemState] = tuple(ItemState)) -> list[BulkItem]:
        """Return the tasks of an action in these states, in the order of their numbers."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT * FROM items WHERE action = ? AND state IN (SELECT value FROM json_each(?)) ORDER BY task",
                (action, json.dumps(list(states))),
            ).fetchall()
        return [
            BulkItem(
                row["task"],
                row["image"],
                ItemState(row["state"]),
                row["annotation"],
                row["updated_at"],
                row["problem"],
            )
            for row in rows
        ]

    def keep(self, action: str, items: Sequence[BulkItem]) -> None:
        """Keep what became of some tasks of an action."""
        with self._database.write() as db:
            db.executemany(
                "REPLACE INTO items SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7"
                " WHERE EXISTS (SELECT 1 FROM items WHERE action = ?1 AND task = ?2)",  # its image may be forgotten
                [_row(action, item) for item in items],
            )

    def count(self, project: str) -> int:
        """Return the number of actions of a project, proposals included; this makes no file."""
        if not self._database.path.exists():
            return 0
        with self._database.read() as db:
            return int(db.execute("SELECT count(*) FROM actions WHERE project = ?", (project,)).fetchone()[0])

    def forget(self, project: str) -> None:
        """Delete all actions of a project."""
        if not self._database.path.exists():
            return
        with self._database.write() as db:
            db.execute("DELETE FROM actions WHERE project = ?", (project,))

    def forget_images(self, images: Collection[str]) -> None:
        """Delete the tasks of images from all actions."""
        if not self._database.path.exists():
            return
        with self._database.write() as db:
            db.execute("DELETE FROM items WHERE image IN (SELECT value FROM json_each(?))", (json.dumps(list(images)),))

    def erase_deleted(self, *, rebuild: bool = False) -> None:
        """Remove what was deleted from the file on the disk, too, see `Database.erase_deleted`."""
        if self._database.path.exists():
            self._database.erase_deleted(rebuild=rebuild)

    def _select(self, condition: str, values: tuple[object, ...]) -> list[BulkAction]:
        with self._database.read() as db:
            rows = db.execute(f"SELECT * FROM actions WHERE {condition}", values).fetchall()  # noqa: S608
            counts: dict[str, Counter[ItemState]] = {row["id"]: Counter() for row in rows}
            for item in db.execute(
                "SELECT action, state, count(*) AS count FROM items"
                " WHERE action IN (SELECT value FROM json_each(?)) GROUP BY action, state",
                (json.dumps(list(counts)),),
            ):
                counts[item["action"]][ItemState(item["state"])] = item["count"]
        return [
            BulkAction(
                id=row["id"],
                project=row["project"],
                person=row["person"],
                who=row["who"],
                at=datetime.fromtimestamp(row["at"], UTC),
                labels={control: tuple(path) for control, path in json.loads(row["labels"]).items()},
                result=json.loads(row["result"]),
                state=ActionState(row["state"]),
                counts=counts[row["id"]],
            )
            for row in rows
        ]


def _row(action: str, item: BulkItem) -> tuple[object, ...]:
    return action, item.task, item.image_id, item.state, item.annotation, item.updated_at, item.problem
