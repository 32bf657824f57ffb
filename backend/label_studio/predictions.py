"""Predictions as Label Studio's JSON, and the name under which it knows a version of a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree

MODEL_PREFIX = "taxonomist-"
_MODEL_VERSION = re.compile(r"taxonomist-(v[1-9][0-9]*|look-alikes-(0|[1-9][0-9]*))")


def model_version_name(version: str) -> str:
    """Return the name under which Label Studio knows a version of the registry."""
    return f"{MODEL_PREFIX}{version}"


def is_model_version(name: object) -> bool:
    """Return whether a prediction's `model_version` is one of ours; those of other backends are not touched."""
    return isinstance(name, str) and _MODEL_VERSION.fullmatch(name) is not None


def prediction_json(model_version: str, suggestions: Sequence[tuple[Tree, Suggestion]]) -> dict[str, Any]:
    """Return the entry of one task in the answer of /predict; without suggestions, the empty prediction.

    A suggestion without a path is a shortlist alone. Label Studio ignores the key `shortlists`, which is there if there
    is a shortlist, and `images`: how many images of the product were predicted together, where several were.
    """
    filled = [(tree, suggestion) for tree, suggestion in suggestions if suggestion.path]
    lists = {tree.control: suggestion for tree, suggestion in suggestions if suggestion.shortlist}
    entry: dict[str, Any] = {
        "model_version": model_version,
        "score": _score(min((suggestion.score for _, suggestion in filled), default=0.0)),
        "result": [result_json(tree, suggestion) for tree, suggestion in filled],
    }
    if several := {tree.control: suggestion.images for tree, suggestion in suggestions if suggestion.images > 1}:
        entry["images"] = several
    if lists:
        entry["shortlists"] = {
            control: {"paths": [list(path) for path in suggestion.shortlist], "score": _score(suggestion.score)}
            for control, suggestion in lists.items()
        }
    return entry


def result_json(tree: Tree, suggestion: Suggestion) -> dict[str, Any]:
    """Return one region of a prediction: a `taxonomy` result, or `choices` for a `<Choices>` control.

    The parent of a shortlist has the paths in its `meta`, which Label Studio keeps with the annotation.
    """
    region = {**region_json(tree, suggestion.path), "score": _score(suggestion.score)}
    if suggestion.shortlist:
        region["meta"] = {"shortlist": [list(listed) for listed in suggestion.shortlist]}
    return region


def region_json(tree: Tree, path: TaxonomyPath, *, of: str = "") -> dict[str, Any]:
    """Return a region with a path: a `taxonomy` result, or `choices` for a `<Choices>` control.

    The same path has the same id, so that a repeated request changes nothing in Label Studio; `of` makes it another.
    """
    value: dict[str, Any] = {"taxonomy": [list(path)]}
    if tree.kind == "choices":
        value = {"choices": [list(path) if tree.nests_choices else path[-1]]}
    return {
        "id": hashlib.sha256("\x1f".join((*([of] if of else []), tree.control, *path)).encode()).hexdigest()[:10],
        "from_name": tree.control,
        "to_name": tree.to_name,
        "type": tree.kind,
        "value": value,
    }


def _score(score: float) -> float:
    """Return the score within 0..1, rounded; 0 for NaN."""
    return round(min(max(float(score), 0.0), 1.0), 4) if score == score else 0.0
