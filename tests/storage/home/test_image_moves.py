"""The table of images that shared an id."""

from __future__ import annotations

import csv
from pathlib import Path

from taxonomist.storage.home.image_moves import ImageMoves, read_split_images, write_split_images


def test_its_addresses_are_no_formulas(tmp_path: Path) -> None:
    addresses = ("=1+1.jpg", "@a.jpg", "+1+1.jpg", "-a.jpg", "＝1.jpg", "plain.jpg")
    targets = {f"new-{number}": {"7": [uri]} for number, uri in enumerate(addresses)}
    write_split_images(tmp_path, ImageMoves({"former": targets}))
    with (tmp_path / "split-images.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    assert [row[2] for row in rows] == [*(f"'{uri}" for uri in addresses[:-1]), "plain.jpg"]
    assert [row["address"] for row in read_split_images(tmp_path)] == list(addresses)
