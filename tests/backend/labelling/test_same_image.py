"""Imports of images whose addresses differ in what other programs would cut off: each image keeps its own labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from tests.backend.labelling.test_label_studio_export import BLUE, DAY, GREEN, RED, annotation
from tests.small_world import CONFIG

PATHS = (RED, BLUE, GREEN)


def import_addresses(services: Services, folder: Path, addresses: list[str]) -> dict[str, list[list[str]]]:
    """Import a task for each address, on whose path two annotators agree; return the accepted paths by address."""
    tasks = [
        {
            "id": number,
            "created_at": DAY,
            "data": {"image": address},
            "annotations": [annotation(10 * number + person, person, PATHS[number % 3]) for person in (1, 2)],
        }
        for number, address in enumerate(addresses)
    ]
    file = folder / "export.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    services.projects.update("7", label_config=CONFIG)
    import_export(services, file, project="7")
    entries = [document.projects["7"] for document in services.catalog.documents("7")]
    return {entry.uri: entry.accepted.get("colour", []) for entry in entries}


@pytest.mark.parametrize(
    "addresses",
    [
        [f"azure-blob://photos/chair #{number}.jpg" for number in range(6)],
        [f"azure-blob://photos/chair?{number}.jpg" for number in range(6)],
        ["azure-blob://photos/a b.jpg", "azure-blob://photos/a%20b.jpg", "azure-blob://photos/a+b.jpg"],
        [f"s3://photos/chair#{number}.jpg" for number in range(6)],
        [f"gs://photos/chair#{number}.jpg" for number in range(6)],
        [f"/data/local-files/?d=set/chair#{number}.jpg" for number in range(6)],
        [f"/data/local-files/?d=set/R&D {number}.jpg" for number in range(6)],
        [f"/data/local-files/?d=set/chair%23{number}.jpg" for number in range(6)],
        [f"https://h/image?id={number}&signature=abc" for number in range(6)],
        [f"https://h/i?id={number}&sv=2024-11-04&sr=b&sig=abc" for number in range(6)],
        [f"https://{account}.blob.core.windows.net/photos/chair.jpg" for account in ("one", "other")],
        [f"https://acc.blob.core.windows.net/photos/a.jpg?versionid={number}" for number in range(6)],
        [f"/mnt/{number}/data/upload/1/a.jpg" for number in range(6)],
        [f"http://h/a{sign}b.jpg" for sign in ("/", "%2F", "%3F", "?")],
    ],
    ids=lambda addresses: str(addresses[0]),
)
def test_each_image_has_its_own_labels(services: Services, tmp_path: Path, addresses: list[str]) -> None:
    wanted = {address: [PATHS[number % 3]] for number, address in enumerate(addresses)}
    assert import_addresses(services, tmp_path, addresses) == wanted


def test_an_image_that_was_signed_anew_is_the_same(services: Services, tmp_path: Path) -> None:
    addresses = [f"https://h/a.jpg?sv=2024-11-04&sr=b&sp=r&se=2026-12-0{day}&sig=abc{day}" for day in range(1, 4)]
    assert len(import_addresses(services, tmp_path, addresses)) == 1
