"""taxonomist: a Label Studio ML backend for images that are labelled with a taxonomy.

`taxonomist.open_home(…)` is the entry to the Python API, see `taxonomist.api`. Its names are loaded when they are first
used, so that a process that only needs one package of taxonomist does not pay for all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxonomist.api import (
        Assistance,
        ControlResult,
        EvaluatedImage,
        Home,
        ImageInput,
        Label,
        LabelFinding,
        LevelScores,
        LookAlike,
        ManifestScores,
        Prediction,
        Project,
        Table,
        TaxonomistError,
        TrainingResult,
        open_home,
    )

__all__ = [
    "Assistance",
    "ControlResult",
    "EvaluatedImage",
    "Home",
    "ImageInput",
    "Label",
    "LabelFinding",
    "LevelScores",
    "LookAlike",
    "ManifestScores",
    "Prediction",
    "Project",
    "Table",
    "TaxonomistError",
    "TrainingResult",
    "open_home",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from taxonomist import api  # noqa: PLC0415 - a process that uses one package does not load all

        return getattr(api, name)
    raise AttributeError(f"module 'taxonomist' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
