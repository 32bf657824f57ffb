"""What was suggested, and what became of it: for each task, control and model version the path, its score and the time.

Label Studio's predictions of older versions are removed. These tables stay, so that the suggestions that annotators
accepted can still be counted. `answers` has what accepted labels say about suggestions, and which suggestions were not
shown. It follows from `suggestions` and the journal. `promises` are copied from the versions. `floors` has the
thresholds that replace those of a version whose promise is broken; it follows from `answers` and `promises`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.paths import TaxonomyPath

MOST_SORTED = 4000  # answers from which those of a page are chosen
_SCHEMA = """
CREATE TABLE IF NOT EXISTS suggestions (
    project TEXT NOT NULL, task_id TEXT NOT NULL, control TEXT NOT NULL, version TEXT NOT NULL,
    image_id TEXT NOT NULL, path TEXT NOT NULL, score REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (project, task_id, control, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS suggestions_image ON suggestions (image_id);
CREATE TABLE IF NOT EXISTS answers (
    project TEXT NOT NULL, task_id TEXT NOT NULL, control TEXT NOT NULL, version TEXT NOT NULL,
    blind INTEGER NOT NULL, at REAL, is_right INTEGER, product TEXT,
    PRIMARY KEY (project, task_id, control, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_version ON answers (project, version, control);
CREATE INDEX IF NOT EXISTS answers_right ON answers (project, version, is_right);
CREATE TRIGGER IF NOT EXISTS answers_of_deleted AFTER DELETE ON suggestions BEGIN
    DELETE FROM answers WHERE project = OLD.project AND task_id = OLD.task_id AND control = OLD.control
    AND version = OLD.version; END;
CREATE TABLE IF NOT EXISTS promises (
    project TEXT NOT NULL, version TEXT NOT NULL, control TEXT NOT NULL, target REAL NOT NULL, threshold REAL NOT NULL,
    PRIMARY KEY (project, version, control)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floors (
    project TEXT NOT NULL, version TEXT NOT NULL, control TEXT NOT NULL, floor REAL NOT NULL,
    PRIMARY KEY (project, version, control)
) STRICT, WITHOUT ROWID"""


@dataclass(frozen=True)
class StoredSuggestion:
    """A suggestion for a control of a task. `version` is the name that Label Studio knows, `at` seconds since 1970.

    `blind`: it was not shown, since the task belongs to the honest sample.
    """

    task_id: str
    control: str
    version: str
    image_id: str
    path: TaxonomyPath
    score: float
    at: float
    blind: bool = False


@dataclass(frozen=True)
class Answer:
    """What the accepted label of an image says about a suggestion. `at` is when a person first annotated its task.

    Images of one `product` are right and wrong together; one without a product is its own.
    """

    task_id: str
    control: str
    version: str
    at: float
    right: bool
    product: str


@dataclass(frozen=True)
class Promise:
    """The precision that a version promises for a control, and the least probability with which it suggests."""

    version: str
    control: str
    target: float
    threshold: float


@dataclass(frozen=True)
class AnsweredPair:
    """What two versions suggested for an answered task: the version that the answer is of, and a former one."""

    image_id: str
    control: str
    product: str
    path: TaxonomyPath
    former_path: TaxonomyPath


@dataclass(frozen=True)
class AnswerCount:
    """How many suggestions of a level (from 1) have an answer, and how many of these are right."""

    level: int
    blind: bool
    answered: int
    right: int


class SuggestionTable:
    """Suggestions in a file of their own, shared by the server and the worker; one per task, control and version.

    Each request for predictions writes it, so a commit does not wait for the disk: a loss of power may cost the last
    suggestions, the end of a process none. Every method raises `StorageError` when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, durable=False)

    def add(self, project: str, suggestions: Sequence[StoredSuggestion]) -> None:
        """Add suggestions. One that is repeated keeps its time; another path of the same version replaces it."""
        if not suggestions:
            return
        rows = [
            (project, row.task_id, row.control, row.version, row.image_id, json.dumps(row.path), row.score, row.at)
            for row in suggestions
        ]
        keys = [(row.blind, project, row.task_id, row.control, row.version) for row in suggestions]
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO suggestions VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (project, task_id, control, version) DO UPDATE"
                " SET image_id = excluded.image_id, path = excluded.path, score = excluded.score, at = excluded.at"
                " WHERE image_id <> excluded.image_id OR path <> excluded.path",
                rows,
            )
            connection.executemany(
                "INSERT INTO answers (blind, project, task_id, control, version) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET blind = excluded.blind WHERE blind <> excluded.blind",
                keys,
            )

    def of_tasks(self, project: str, task_ids: Collection[str]) -> list[StoredSuggestion]:
        """Return the suggestions for these tasks, ordered by task, control and time."""
        return self._stored("task_id", project, task_ids)

    def of_images(self, project: str, image_ids: Collection[str]) -> list[StoredSuggestion]:
        """Return the suggestions for these images, ordered by task, control and time."""
        return self._stored("image_id", project, image_ids)

    def _stored(self, column: str, project: str, ids: Collection[str]) -> list[StoredSuggestion]:
        mark = "+" if column == "image_id" else ""  # so that SQLite takes the index of the images
        with self._database.read() as connection:
            query = (
                "SELECT s.*, coalesce(blind, 0) AS blind FROM suggestions s"  # noqa: S608
                " LEFT JOIN answers USING (project, task_id, control, version)"
                f" WHERE {mark}s.project = ? AND {column} IN (SELECT value FROM json_each(?))"
                " ORDER BY task_id, control, s.at"
            )
            rows = connection.execute(query, (project, json.dumps(list(ids)))).fetchall()
        return [
            StoredSuggestion(
                task_id=row["task_id"],
                control=row["control"],
                version=row["version"],
                image_id=row["image_id"],
                path=tuple(json.loads(row["path"])),
                score=row["score"],
                at=row["at"],
                blind=bool(row["blind"]),
            )
            for row in rows
        ]

    def keep_answers(self, project: str, image_ids: Collection[str], answers: Sequence[Answer]) -> None:
        """Replace the answers to the suggestions for these images."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE answers SET at = NULL, is_right = NULL, product = NULL"
                " WHERE (project, task_id, control, version) IN"
                " (SELECT project, task_id, control, version FROM suggestions"
                " WHERE +project = ? AND image_id IN (SELECT value FROM json_each(?)))",
                (project, json.dumps(list(image_ids))),
            )
            connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET at = excluded.at, is_right = excluded.is_right, product = excluded.product",
                [(project, row.task_id, row.control, row.version, row.at, row.right, row.product) for row in answers],
            )

    def answered(
        self, project: str, versions: Sequence[str], *controls: str
    ) -> Iterator[tuple[str, float, bool, bool]]:
        """Yield of each suggestion that has an answer its version, its score, whether it is right and whether blind.

        `controls` are the names that one control had and has. The suggestions are in the order of `versions`, then of
        their answers, and of each product there is the first one.
        """
        with self._database.read() as connection:
            for row in connection.execute(
                "SELECT version, score, is_right, blind FROM (SELECT s.score, a.*, v.key AS place, row_number() OVER"
                " (PARTITION BY a.product ORDER BY v.key, a.at, a.task_id) AS number"
                " FROM json_each(?) v JOIN answers a ON a.version = v.value"
                " JOIN suggestions s USING (project, task_id, control, version)"
                " WHERE a.project = ? AND a.control IN (SELECT value FROM json_each(?)) AND a.at IS NOT NULL)"
                " WHERE number = 1 ORDER BY place, at, task_id",
                (json.dumps(list(versions)), project, json.dumps(controls)),
            ):
                yield row["version"], row["score"], bool(row["is_right"]), bool(row["blind"])

    def keep_promises(self, project: str, promises: Sequence[Promise]) -> None:
        """Keep the promises of versions."""
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO promises VALUES (?, ?, ?, ?, ?)",
                [(project, row.version, row.control, row.target, row.threshold) for row in promises],
            )

    def promises(self, project: str) -> list[Promise]:
        """Return the promises of a project's versions, the oldest version first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT version, control, target, threshold FROM promises WHERE project = ?"
                " ORDER BY length(version), version, control",
                (project,),
            ).fetchall()
        return [Promise(*row) for row in rows]

    def answered_by_both(self, project: str, version: str, former: str) -> list[AnsweredPair]:
        """Return the answered suggestions of a version for which the former one had suggested another path by then.

        They are in the order of their answers.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT s.image_id, a.control, a.product, s.path, f.path AS former_path"
                " FROM answers a JOIN suggestions s USING (project, task_id, control, version)"
                " JOIN suggestions f ON f.project = a.project AND f.task_id = a.task_id AND f.control = a.control"
                " AND f.version = ? AND f.image_id = s.image_id AND f.at <= a.at AND f.path <> s.path"
                " WHERE a.project = ? AND a.version = ? AND a.at IS NOT NULL ORDER BY a.at, a.task_id",
                (former, project, version),
            ).fetchall()
        return [
            AnsweredPair(
                image_id=row["image_id"],
                control=row["control"],
                product=row["product"],
                path=tuple(json.loads(row["path"])),
                former_path=tuple(json.loads(row["former_path"])),
            )
            for row in rows
        ]

    def answer_counts(self, project: str, version: str) -> list[AnswerCount]:
        """Return the counts of the answers to a version's suggestions, by level and blind."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT json_array_length(path) AS level, blind, count(*), sum(is_right)"
                " FROM answers a JOIN suggestions s USING (project, task_id, control, version)"
                " WHERE project = ? AND version = ? AND a.at IS NOT NULL"
                " GROUP BY level, blind ORDER BY level, blind",
                (project, version),
            ).fetchall()
        return [AnswerCount(row[0], bool(row[1]), row[2], row[3]) for row in rows]

    def floors(self, project: str, version: str) -> dict[str, float]:
        """Return, by control, the least score of a suggestion of a version whose promise is broken; `inf`: none."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT control, floor FROM floors WHERE project = ? AND version = ?", (project, version)
            ).fetchall()
        return {row["control"]: row["floor"] for row in rows}

    def keep_floors(self, project: str, version: str, floors: Mapping[str, float]) -> None:
        """Replace the floors of a version. Controls whose promise holds have none."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM floors WHERE project = ? AND version = ?", (project, version))
            connection.executemany(
                "INSERT INTO floors VALUES (?, ?, ?, ?)",
                [(project, version, control, floor) for control, floor in floors.items()],
            )

    def count(self, project: str) -> int:
        """Return the number of suggestions of a project."""
        with self._database.read() as connection:
            query = "SELECT count(*) FROM suggestions WHERE project = ?"
            return int(connection.execute(query, (project,)).fetchone()[0])

    def judged(self, project: str, version: str) -> tuple[int, int]:
        """Return how many suggestions of a version labels call right, and how many wrong."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT is_right, count(*) FROM answers WHERE project = ? AND version = ? AND is_right IS NOT NULL"
                " GROUP BY is_right",
                (project, version),
            ).fetchall()
        counts = {bool(row[0]): row[1] for row in rows}
        return counts.get(True, 0), counts.get(False, 0)

    def judged_images(self, project: str, version: str, *, right: bool, after: str = "", limit: int) -> list[str]:
        """Return the next images, by id, with a suggestion of this version that a label calls right or wrong.

        All the answers are sorted if there are few of them; else the images are looked at in their order.
        """
        with self._database.read() as connection:
            counted = connection.execute(
                "SELECT count(*) FROM"
                " (SELECT 1 FROM answers WHERE project = ? AND version = ? AND is_right = ? LIMIT ?)",
                (project, version, right, MOST_SORTED + 1),
            ).fetchone()[0]
            if counted <= MOST_SORTED:
                tables, mark = "answers a INDEXED BY answers_right CROSS JOIN suggestions s", ""
            else:
                tables, mark = "suggestions s INDEXED BY suggestions_image CROSS JOIN answers a", "+"
            rows = connection.execute(
                f"SELECT DISTINCT image_id FROM {tables} USING (project, task_id, control, version)"  # noqa: S608
                f" WHERE {mark}a.project = ? AND {mark}a.version = ? AND is_right = ? AND image_id > ?"
                " ORDER BY image_id LIMIT ?",
                (project, version, right, after, limit),
            ).fetchall()
        return [row["image_id"] for row in rows]

    def count_images(self, project: str, version: str) -> int:
        """Return the number of images of a project with a suggestion of this version."""
        with self._database.read() as connection:
            # All of the index is read, in the order of the images; the table has their paths, too, and another order.
            query = "SELECT count(DISTINCT image_id) FROM suggestions WHERE +project = ? AND version = ?"
            return int(connection.execute(query, (project, version)).fetchone()[0])

    def count_of_image(self, image_id: str) -> int:
        """Return the number of suggestions for an image, in all projects."""
        with self._database.read() as connection:
            query = "SELECT count(*) FROM suggestions WHERE image_id = ?"
            return int(connection.execute(query, (image_id,)).fetchone()[0])

    def erase_deleted(self) -> None:
        """See `Database.erase_deleted`."""
        self._database.erase_deleted()

    def delete(
        self,
        *,
        project: str | None = None,
        task_ids: Collection[str] | None = None,
        image_ids: Collection[str] | None = None,
        version: str | None = None,
    ) -> int:
        """Delete the suggestions that meet all the conditions that are given; return how many.

        `delete(project="4")` deletes those of a project, `delete(image_ids=[…])` those for images in all projects.
        Raises `ValueError` without any condition.
        """
        conditions: list[tuple[str, str]] = []
        if project is not None:
            conditions.append(("project = ?", project))
        if task_ids is not None:
            conditions.append(("task_id IN (SELECT value FROM json_each(?))", json.dumps(list(task_ids))))
        if image_ids is not None:
            conditions.append(("image_id IN (SELECT value FROM json_each(?))", json.dumps(list(image_ids))))
        if version is not None:
            conditions.append(("version = ?", version))
        if not conditions:
            raise ValueError("delete() needs a condition")
        where = " AND ".join(condition for condition, _ in conditions)
        with self._database.write() as connection:
            if task_ids is None and image_ids is None and version is None:
                for table in ("floors", "promises"):
                    connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))  # noqa: S608
            query = f"DELETE FROM suggestions WHERE {where}"  # noqa: S608
            return connection.execute(query, [value for _, value in conditions]).rowcount
