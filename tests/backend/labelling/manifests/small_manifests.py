"""Manifests for tests of imports: written, imported into the project `p`, and what is stored then."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.services import Services

ROWS = {f"{number:02d}.jpg": ("Bath", "Sink") if number % 2 else ("Kitchen", "Tap") for number in range(20)}


def write(folder: Path, rows: Mapping[str, Sequence[str]] | Sequence[Sequence[str]], name: str = "m.csv") -> Path:
    """Write a manifest with two levels, and a file with its own content for each name."""
    folder.mkdir(exist_ok=True)
    lines = ["file,level1,level2,product,annotator"]
    for row in [[file, *path] for file, path in rows.items()] if isinstance(rows, Mapping) else rows:
        cells = [*row, *[""] * (5 - len(row))]
        lines.append(",".join(cells))
        image = folder / "images" / cells[0]
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            image.write_bytes(f"image {folder.name} {cells[0]}".encode())
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder / name


def labels(services: Services, project: str = "p") -> dict[str, list[list[str]]]:
    """Return the accepted paths by the name of the image."""
    return {
        document.projects[project].uri.rpartition("/")[2]: document.projects[project].accepted.get("taxonomy", [])
        for document in services.catalog.documents(project)
    }


def follow(services: Services, manifest: Path, **options: Any) -> ImportResult:
    images = options.pop("images", None)
    return import_manifest(services, manifest, "p", images=images, options=ManifestOptions(**options))


def state(home: Path) -> dict[str, Any]:
    """Return every table of every database and the bytes of every other file; without logs and locks."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        if file.suffix == ".sqlite":
            with closing(sqlite3.connect(file)) as connection:
                names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                found[file.name] = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        elif not file.name.endswith(("-wal", "-shm", "lock", "home.json")):
            found[str(file.relative_to(home))] = file.read_bytes()
    return found
