"""What the champion says about each labelled image of a manifest, and whether it is right."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taxonomist.storage.csv_text import for_spreadsheets
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy.paths import TaxonomyPath, format_path, prefixes
from taxonomist.taxonomy.suggestion import Suggestion

JSON_LINES = ".jsonl"


@dataclass(frozen=True)
class EvaluatedImage:
    """A labelled image and the champion's answer.

    `likeliest` is the whole likeliest path, `suggestion` the part of it that the model can be trusted with, () without
    one, and `probability` that of the suggestion or of the `shortlist`, 0 to 1, None without either. `right` and
    `suggestion_right` say for each level, 1 first, whether `likeliest` and `suggestion` are right there: None where no
    label reaches the level, and where the suggestion does not. `learned_from`: the champion knows the image, a copy of
    it or another image of its product. `error` says why an image could not be read; it has no answer then.
    """

    image: str
    product: str | None
    learned_from: bool
    labels: tuple[TaxonomyPath, ...]
    likeliest: TaxonomyPath = ()
    suggestion: TaxonomyPath = ()
    probability: float | None = None
    shortlist: tuple[TaxonomyPath, ...] = ()
    right: tuple[bool | None, ...] = ()
    suggestion_right: tuple[bool | None, ...] = ()
    error: str | None = None


def right_by_level(
    labels: Sequence[TaxonomyPath], path: TaxonomyPath, levels: int, *, as_deep_as_labels: bool
) -> tuple[bool | None, ...]:
    """Return for each of the levels whether a label goes through the path's node there; None where none reaches it.

    A path that ends above a level is wrong there, or, unless `as_deep_as_labels`, it is None.
    """
    nodes = {node for label in labels for node in prefixes(label)}
    reached = {len(node) for node in nodes}

    def right(level: int) -> bool | None:
        if level not in reached or (len(path) < level and not as_deep_as_labels):
            return None
        return len(path) >= level and path[:level] in nodes

    return tuple(map(right, range(1, levels + 1)))


def evaluated(
    image: str,
    product: str | None,
    labels: Sequence[TaxonomyPath],
    likeliest: TaxonomyPath | None,
    suggestion: Suggestion | None,
    levels: int,
    *,
    learned_from: bool,
) -> EvaluatedImage:
    """Return the row of an image that was predicted, for a tree of that many levels."""
    suggested = suggestion.path if suggestion else ()
    return EvaluatedImage(
        image,
        product,
        learned_from,
        tuple(labels),
        likeliest or (),
        suggested,
        suggestion.score if suggestion else None,
        suggestion.shortlist if suggestion else (),
        right_by_level(labels, likeliest or (), levels, as_deep_as_labels=True),
        right_by_level(labels, suggested, levels, as_deep_as_labels=False),
    )


def table_of_images(images: Sequence[EvaluatedImage]) -> Iterator[list[object]]:
    """Yield the rows of a CSV, its header first. Paths of one cell are separated by "; "; right is 1, wrong 0.

    A text that a spreadsheet would run as a formula begins with "'".
    """
    levels = range(1, max((len(image.right) for image in images), default=0) + 1)
    yield [
        "image",
        "product",
        "label",
        "suggestion",
        "probability",
        "likeliest",
        "shortlist",
        *(f"right_{level}" for level in levels),
        *(f"suggestion_right_{level}" for level in levels),
        "learned_from",
        "error",
    ]
    for image in images:
        right, suggestion_right = ([*map(_cell, found)] for found in (image.right, image.suggestion_right))
        missing = [""] * (len(levels) - len(right))
        yield for_spreadsheets(
            [
                image.image,
                image.product or "",
                _paths(image.labels),
                format_path(image.suggestion),
                "" if image.probability is None else f"{image.probability:.4f}",
                format_path(image.likeliest),
                _paths(image.shortlist),
                *right,
                *missing,
                *suggestion_right,
                *missing,
                int(image.learned_from),
                image.error or "",
            ]
        )


def write_images(file: Path, images: Sequence[EvaluatedImage]) -> None:
    """Write the rows as JSON lines where the file's name ends in .jsonl, else as CSV. Raises `StorageError`.

    A file that is there is replaced in one step.
    """
    if file.suffix.lower() == JSON_LINES:
        lines = (json.dumps(asdict(image), ensure_ascii=False) + "\n" for image in images)
        data = "".join(lines).encode("utf-8", "backslashreplace")  # half of a character is escaped as JSON does it
    else:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(table_of_images(images))
        data = text.getvalue().encode("utf-8", "surrogatepass")
    with storage_errors(file):
        write_atomically(file, data)


def _paths(paths: Sequence[TaxonomyPath]) -> str:
    return "; ".join(map(format_path, paths))


def _cell(right: bool | None) -> int | str:
    return "" if right is None else int(right)
