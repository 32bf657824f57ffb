"""The words of the evaluation. Each sentence is a key of `german.GERMAN`."""

from __future__ import annotations

from collections.abc import Mapping

from taxonomist.backend.status.evaluation.comparison import Became
from taxonomist.backend.status.evaluation.images import ChangeImages, EvaluatedImages
from taxonomist.backend.status.evaluation.matrix import ELSEWHERE, child_of
from taxonomist.backend.web.console.language import Language
from taxonomist.taxonomy.paths import format_path

CHANGES: Mapping[Became, str] = {
    "better": "right in {version} alone, not in {other}",
    "worse": "right in {other} alone, not in {version}",
    "right": "right in {version} and {other}",
    "wrong": "wrong in {version} and {other}",
}


def level_words(level: int, language: Language) -> str:
    """Return the name of a level, or of the whole label."""
    return language.t("level {level}", level=level) if level else language.t("whole label")


def node_words(name: str, language: Language) -> str:
    """Return the name of a node; a model may have learned that a control is left empty."""
    return name or language.t("no answer")


def key_words(key: str, language: Language) -> str:
    """Return what a row or a column of a matrix is."""
    child = child_of(key)
    if child is not None:
        return node_words(child, language)
    return language.t("elsewhere" if key == ELSEWHERE else "other nodes")


def evaluated_words(images: EvaluatedImages, language: Language) -> str:
    """Return which images of an evaluation are shown."""
    if isinstance(images, ChangeImages):
        changed = language.t(CHANGES[images.became], version=images.version, other=images.other)
        return f"{changed} ({level_words(images.level, language)})"
    row, column = (key_words(key, language) for key in (images.row, images.column))
    place = f"{format_path(images.node)}: " if images.node else ""
    return language.t(
        "{version}, {place}label {label}, predicted {predicted}",
        version=images.version,
        place=place,
        label=row,
        predicted=column,
    )
