"""Make `home-0.1.0-merged.tar.gz`: a small home of the first release (0.1.0) in which several images share an id.

The script runs with the code of 0.1.0, whose packages are still called `backend`, `storage`, and so on:

    git worktree add /tmp/taxonomist-0.1.0-code 078dd32
    PYTHONPATH=/tmp/taxonomist-0.1.0-code:tests/data python tests/data/make_merged_home.py

Project "7" has an image for each address of `ADDRESSES`, labelled by two annotators who agree: the image at position n
has the path `PATHS[n % 4]`. Release 0.1.0 kept 8 documents for the 14 images. Each id has a part and a product, an
embedding, and a prepared image whose first pixel is its row.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import numpy as np
from make_old_home import COLOURS, CONFIG, command, publish_backbone
from storage.pictures import PictureStore

from backend.services import Services
from backend.settings import Settings

HERE = Path(__file__).parent
ROOT = Path("/tmp/taxonomist-0.1.0")
PATHS = [list(path) for path in COLOURS]
ADDRESSES = [
    "azure-blob://photos/chair #1.jpg",
    "azure-blob://photos/chair #2.jpg",
    "azure-blob://photos/chair #3.jpg",
    "azure-blob://photos/table.jpg",
    "azure-blob://photos/table.jpg?x",
    "/data/local-files/?d=set/lamp#1.jpg",
    "/data/local-files/?d=set/lamp#2.jpg",
    "https://h/image?id=1&signature=abc",
    "https://h/image?id=2&signature=abc",
    "azure-blob://photos/a%2520b.jpg",
    "azure-blob://photos/a%20b.jpg",
    "https://acc.blob.core.windows.net/photos/sofa.jpg?sv=2021-01-01&sig=abc",
    "/data/upload/1/0a1b2c3d-bed.jpg",
    "https://other.blob.core.windows.net/photos/table.jpg",
]


def task(number: int, uri: str) -> dict[str, object]:
    """Return a task with the annotations of two people."""
    path = PATHS[number % 4]
    result = [{"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}]
    time = f"2026-01-05T10:{number:02d}:00Z"
    annotations = [
        {"id": 10 * number + person, "completed_by": person, "created_at": time, "updated_at": time, "result": result}
        for person in (1, 2)
    ]
    return {"id": number, "project": 7, "created_at": time, "data": {"image": uri}, "annotations": annotations}


def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Return an entry of the archive, None for secrets, locks and SQLite's temporary files."""
    name = Path(entry.name).name
    if name in {"secrets.json", "credentials.json"} or name.endswith(("-wal", "-shm", ".lock")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    (ROOT / "export.json").write_text(json.dumps([task(number, uri) for number, uri in enumerate(ADDRESSES)]))
    (ROOT / "config.xml").write_text(CONFIG)
    services = Services(Settings(home=ROOT / "home"))
    publish_backbone(services)
    command("import", str(ROOT / "export.json"), "--project", "7", "--config", str(ROOT / "config.xml"))
    ids = sorted(document.id for document in services.catalog.documents("7"))
    assert len(ids) == 8, ids
    for row, id in enumerate(ids):
        services.catalog.update(
            id,
            lambda document, row=row: document.model_copy(
                update={
                    "file_hash": f"{row:064d}",
                    "is_blurred": row == 0,
                    "projects": {
                        "7": document.projects["7"].model_copy(
                            update={"part": "test" if row % 2 else "train", "group": f"product {row}"}
                        )
                    },
                }
            ),
        )
    rows = np.arange(len(ids))
    services.embeddings("v1").append(ids, np.repeat(rows[:, None], 48, axis=1).astype(np.float32))
    pictures = np.zeros((len(ids), 32, 32, 3), np.uint8)
    pictures[:, 0, 0, 0] = rows
    PictureStore(ROOT / "home" / "pictures" / "32", 32).append(ids, pictures)
    (ROOT / "home" / "pretraining").mkdir()
    run = {"ids": ids, "groups": [], "probe": [{"id": ids[0], "label": "Warm", "group": None}]}
    (ROOT / "home" / "pretraining" / "pictures.json").write_text(json.dumps(run))
    services.close()
    for database in (ROOT / "home").glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(HERE / "home-0.1.0-merged.tar.gz", "w:gz") as archive:
        archive.add(ROOT / "home", "home", filter=kept)
