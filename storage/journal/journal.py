"""The journal: records events, folds them into the state, and reads the state."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from taxonomist.storage.files import storage_errors
from taxonomist.storage.journal.codec import Row, encode
from taxonomist.storage.journal.counts import JournalCounts, UnknownPaths
from taxonomist.storage.journal.events import UNKNOWN_SOURCE, AnnotationDeleted, Event, TaskDeleted
from taxonomist.storage.journal.fold import fold_slice
from taxonomist.storage.journal.migration import adopt
from taxonomist.storage.journal.reading import JournalState
from taxonomist.storage.journal.schema import SCHEMA, VERSION
from taxonomist.storage.journal.shared_commits import SharedCommits
from taxonomist.storage.journal.state import Folded
from taxonomist.storage.journal.withdrawal import Withdrawal
from taxonomist.storage.kept.copies import KeptCopies
from taxonomist.storage.kept.draws import Draws
from taxonomist.storage.set_aside import SetAside
from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.errors import BadRequestError, DamagedError

__all__ = ["Journal"]

_SLICE_S = 0.02  # of a write transaction, for which webhooks wait
_COMPACTED = 200  # events that a transaction deletes
_PAUSE_S = 0.01  # after it, so that they come between

_THEN = (
    "Then a new one begins: the labels stay as they are, passes over Label Studio bring its annotations back, and "
    "`taxonomist status` names what is to be imported again."
)


class Journal(JournalState):
    """Events in a SQLite file that all threads and processes of taxonomist share.

    Every method raises `StorageError` when the file cannot be read or written, and `DamagedError` when it is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        check, hint = partial(_check_new_journal, path), _hint_of_damage(path)
        super().__init__(Database(path, SCHEMA, version=VERSION, check_new=check, hint_of_damage=hint))
        self._commits = SharedCommits(self._database)
        self.withdrawal = Withdrawal(self._database)
        self.counts = JournalCounts(self._database)
        self.unknown_paths = UnknownPaths(self._database)
        self.set_aside = SetAside(self._database)
        self.kept = KeptCopies(self._database)
        self.draws = Draws(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def record(self, events: Sequence[Event]) -> int:
        """Commit the events to the disk and return how many were new.

        An annotation is identified by (project, source, id, created_at, updated_at), other events accordingly; an event
        that is recorded already does not count again. Concurrent threads share one commit, so thousands of events
        should be recorded in portions, or a webhook waits for all of them. Raises `BadRequestError` when an event
        cannot be stored (a time without a zone, text that is not Unicode).
        """
        if not events:
            return 0
        return self._commits.insert([encode(self._timed(event)) for event in events])

    def record_each(self, groups: Sequence[Sequence[Event]]) -> list[int | Exception]:
        """Commit groups of events together, as `record` commits one of them.

        Return how many of each group were new, or the error that it alone provoked: then nothing of it is stored.
        """
        results: list[int | Exception] = []
        rows: list[list[Row]] = []
        for group in groups:
            try:
                rows.append([encode(self._timed(event)) for event in group])
                results.append(0)
            except BadRequestError as error:
                results.append(error)
        inserted = iter(self._commits.insert_each(rows) if any(rows) else [0] * len(rows))
        return [result if isinstance(result, Exception) else next(inserted) for result in results]

    def _timed(self, event: Event) -> Event:
        if isinstance(event, AnnotationDeleted | TaskDeleted) and event.at is None:
            return replace(event, at=datetime.now(UTC))
        return event

    def fold(self) -> Folded:
        """Fold the recorded events into the state and return what changed since the last fold.

        Images stay dirty until `done`, so a crash after the fold loses nothing. The fold uses short transactions, so
        that webhooks are recorded in between.
        """
        touched: set[tuple[str, str]] = set()
        events = 0
        while True:
            with self._database.write() as connection:
                part = fold_slice(connection, _SLICE_S)
            touched |= part.touched
            events += part.events
            if part.is_last:
                images, removed = self._by_presence(touched)
                return Folded(images, removed, events, part.position)
            time.sleep(_PAUSE_S)

    def _by_presence(
        self, touched: Collection[tuple[str, str]]
    ) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
        """Return which of the images are still in their project, and which have left it."""
        query = "SELECT present FROM dirty_images WHERE project = ? AND image_id = ?"
        with self._database.read() as connection:
            rows = {key: connection.execute(query, key).fetchone() for key in touched}
        removed = frozenset(key for key, row in rows.items() if row is not None and not row["present"])
        return frozenset(touched) - removed, removed

    def done(self, project: str, image_ids: Sequence[str] | frozenset[str], position: int) -> None:
        """Mark images as no longer dirty: the catalogue has their changes up to `position` (of `Folded` or `Dirty`).

        Images that have changed again since then stay dirty.
        """
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM dirty WHERE project = ? AND image_id IN (SELECT value FROM json_each(?)) AND seq <= ?",
                (project, json.dumps(sorted(image_ids)), position),
            )

    def compact(self, keep_days: float) -> int:
        """Delete folded events received more than `keep_days` ago and return their number; the state stays.

        Events that are set aside stay, too.
        """
        limit = time.time() - keep_days * 86_400
        total = 0
        while True:
            with self._database.write() as connection:
                deleted = connection.execute(
                    "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE received_at < ?"
                    " AND seq <= (SELECT seq FROM folded)"
                    " AND CAST(seq AS TEXT) NOT IN (SELECT key FROM set_aside WHERE kind = 'event') LIMIT ?)",
                    (limit, _COMPACTED),
                ).rowcount
            total += deleted
            if deleted < _COMPACTED:
                return total
            time.sleep(_PAUSE_S)

    def adopt(
        self,
        project: str,
        source: str,
        *,
        former: str = UNKNOWN_SOURCE,
        tasks: Collection[str] | None = None,
        annotations: Collection[str] = (),
    ) -> int:
        """Give what the project has of the former source this source, and return how many tasks and annotations.

        Given `tasks`, only these with their annotations, and the further `annotations`.
        A webhook may come before the project's time of creation is known, and earlier releases stored no sources.
        """
        rows = " UNION ALL ".join(
            f"SELECT 1 FROM {table} WHERE project = ? AND source = ?"  # noqa: S608
            for table in ("annotations", "tasks", "deletions")
        )
        waiting = "SELECT 1 FROM events WHERE project = ? AND seq > (SELECT seq FROM folded)"
        unknown = (project, former)
        if self._row(f"{rows} UNION ALL {waiting} LIMIT 1", (*unknown, *unknown, *unknown, project)) is None:
            return 0
        with self._database.write() as connection:
            return adopt(connection, project, source, former, None if tasks is None else (tasks, annotations))


def _hint_of_damage(journal: Path) -> str:
    """Return what to do with a damaged journal."""
    return (
        f"Stop the server and put back a copy of it; without one, move it aside together with its -wal and -shm files: "
        f'mv "{journal}" "{journal}.damaged". {_THEN}'
    )


def _check_new_journal(journal: Path) -> None:
    """Raise `DamagedError` where a journal is gone, which its labels show, unless a damaged one lies beside it.

    Raises `StorageError` when the folder cannot be read.
    """
    with storage_errors(journal):
        if any(journal.parent.glob(f"{journal.name}.damaged*")) or not _was_used(journal.parent / "projects"):
            return
    raise DamagedError(
        f"{journal} is gone.", hint=f'Put back a copy of it; without one: touch "{journal}.damaged". {_THEN}'
    )


def _was_used(records: Path) -> bool:
    """Return whether labels of a project were decided: its record has the rule, by which they are from a journal."""
    return any(b'"decided_with": "' in path.read_bytes() for path in records.glob("*.json"))
