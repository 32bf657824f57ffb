"""Numbers of the journal that SQLite counts, so that they need no memory, and the paths that no taxonomy has."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from taxonomist.storage.sqlite import Database

__all__ = ["JournalCounts", "SourceCounts", "Unknown", "UnknownLabels", "UnknownPaths"]

Unknown = Mapping[tuple[str, tuple[str, ...]], int]
"""The number of an image's labels by the control and the path that they name and its taxonomy does not have."""


@dataclass(frozen=True)
class UnknownLabels:
    """A path that labels name and the taxonomy does not have, and the number of these labels."""

    control: str
    path: tuple[str, ...]
    labels: int


@dataclass(frozen=True)
class SourceCounts:
    """How many live tasks and annotations are from a source."""

    source: str
    tasks: int
    annotations: int


class UnknownPaths:
    """The paths that labels of decided images name and the taxonomy does not have. Methods raise as `Journal`'s do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, project: str, images: Mapping[str, Unknown]) -> None:
        """Keep them for images that are decided, in place of what was kept of these images."""
        if not any(images.values()) and not self._has(project, images):
            return
        with self._database.write() as connection:
            connection.executemany(
                "DELETE FROM unknown_paths WHERE project = ? AND image_id = ?", [(project, image) for image in images]
            )
            connection.executemany(
                "INSERT INTO unknown_paths VALUES (?, ?, ?, ?, ?)",
                [
                    (project, image, control, json.dumps(path), labels)
                    for image, unknown in images.items()
                    for (control, path), labels in unknown.items()
                ],
            )

    def labels(self, project: str) -> list[UnknownLabels]:
        """Return the number of labels by path, most labels first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT control, path, sum(labels) AS labels FROM unknown_paths WHERE project = ?"
                " GROUP BY control, path ORDER BY labels DESC, control, path",
                (project,),
            ).fetchall()
        return [UnknownLabels(row["control"], tuple(json.loads(row["path"])), row["labels"]) for row in rows]

    def images(self, project: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield the image, the control and the path of each, in pages."""
        query = (
            "SELECT image_id, control, path FROM unknown_paths"
            " WHERE project = ? AND (image_id, control, path) > (?, ?, ?) ORDER BY image_id, control, path LIMIT 1000"
        )
        last = ("", "", "")
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, (project, *last)).fetchall()
            if not rows:
                return
            last = tuple(rows[-1])
            yield from ((image, control, tuple(json.loads(path))) for image, control, path in rows)

    def _has(self, project: str, images: Iterable[str]) -> bool:
        query = "SELECT 1 FROM unknown_paths WHERE project = ? AND image_id IN (SELECT value FROM json_each(?)) LIMIT 1"
        with self._database.read() as connection:
            return connection.execute(query, (project, json.dumps(list(images)))).fetchone() is not None


class JournalCounts:
    """Numbers of the state, as of the last fold. Methods raise as `Journal`'s do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sources(self, project: str) -> list[SourceCounts]:
        """Return the number of live tasks and annotations of each source."""
        counts: dict[str, list[int]] = {}
        with self._database.read() as connection:
            for position, view in enumerate(("live_tasks", "live_annotations")):
                query = f"SELECT source, count(*) FROM {view} WHERE project = ? GROUP BY source"  # noqa: S608
                for source, count in connection.execute(query, (project,)):
                    counts.setdefault(source, [0, 0])[position] = count
        return [SourceCounts(source, *counts[source]) for source in sorted(counts)]

    def people(self, project: str) -> int:
        """Return how many people the live annotations name; each annotation without a name counts as a person.

        What the model made is not counted, although Label Studio names a person; see `parse_annotation`.
        """
        query = (
            "SELECT count(DISTINCT coalesce(json_extract(data, '$.completed_by.id'),"
            " json_extract(data, '$.completed_by.email'), json_extract(data, '$.completed_by'),"
            " json_extract(data, '$.created_username'), 'unknown-' || annotation_id))"
            " FROM live_annotations WHERE project = ? AND json_valid(data)"
            " AND NOT (json_extract(data, '$.parent_prediction') IS NOT NULL"
            " AND json_extract(data, '$.lead_time') IS NULL AND coalesce(json_extract(data, '$.ground_truth'), 0) = 0"
            " AND coalesce(json_array_length(data, '$.reviews'), 0) = 0)"
        )
        with self._database.read() as connection:
            return int(connection.execute(query, (project,)).fetchone()[0])

    def addresses_without_host(self, project: str) -> list[tuple[str, str, str]]:
        """Return the id, the project and the address, for each address that tasks have, of those images of a project
        that are local files of Label Studio, or uploads at a host: their ids do not depend on the host."""
        query = (
            "SELECT DISTINCT image_id, project, uri FROM image_tasks"
            " WHERE (uri LIKE '%/data/local-files%' OR uri LIKE '%/data/upload/%') AND image_id IN ("
            "SELECT image_id FROM image_tasks WHERE project = ?"
            " AND (uri LIKE '%/data/local-files%' OR uri LIKE 'http%/data/upload/%'))"
        )
        with self._database.read() as connection:
            return [tuple(row) for row in connection.execute(query, (project,))]

    def dirty(self, project: str) -> int:
        """Return the number of images whose label is to be decided."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM dirty WHERE project = ?", (project,)).fetchone()[0])
