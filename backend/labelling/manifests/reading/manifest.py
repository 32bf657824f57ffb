"""Reads a manifest: its header, its rows, and where their files are. Nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.labelling.manifests.reading.columns import find_columns, is_column
from taxonomist.backend.labelling.manifests.reading.files import ImageFinder
from taxonomist.backend.labelling.manifests.reading.rows import CheckedRows, ManifestRow, check_rows
from taxonomist.storage.csv_text import open_csv


@dataclass(frozen=True)
class Manifest:
    """A manifest: its checked rows, and the names of the columns that are not used."""

    file: Path
    checked: CheckedRows
    unknown_columns: tuple[str, ...]


def open_manifest(
    manifest: Path, images: Sequence[Path] = (), others: Sequence[Path] = (), *, multi_label: bool = False
) -> Manifest:
    """Return the rows of a CSV with `file, level1, level2, …` and optional `product` and `annotator`.

    Files are looked up in the folders `images`, or else beside the CSV and in `images/` beside it, and then in
    `others`. Raises `ConfigError` when the CSV as a whole cannot be used.
    """
    table = open_csv(manifest, is_column)
    columns = find_columns(manifest, table.columns)
    folders = images or [manifest.parent, manifest.parent / "images"]
    finder = ImageFinder([folder.resolve() for folder in folders], others)
    checked = check_rows(table.rows, columns, finder.find, multi_label=multi_label)
    return Manifest(manifest, checked, columns.unknown)


def read_manifest(manifest: Path, images: Path | None = None) -> tuple[list[ManifestRow], list[str]]:
    """Return the rows of a manifest that can be used, with any number of labels for a file, and a line for each other.

    Raises `ConfigError` when the CSV as a whole cannot be used.
    """
    checked = open_manifest(manifest, [images] if images else (), multi_label=True).checked
    return list(checked.rows), [f"line {row.line}: {row.problem}" for row in checked.bad]
