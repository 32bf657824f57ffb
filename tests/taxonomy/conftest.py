"""A small tree, and what Label Studio 1.23 really sent about it (trimmed recordings in data/)."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.annotations import Annotation, UnknownPath, parse_annotation
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

DATA = Path(__file__).parent / "data"
START = datetime(2026, 11, 24, 12, tzinfo=UTC)

#   0 A          1 A,B      2 A,B,X     3 A,B,Y     4 A,C
#   5 D          6 D,E
SMALL = Tree(
    control="media",
    to_name="image",
    kind="taxonomy",
    paths=(("A",), ("A", "B"), ("A", "B", "X"), ("A", "B", "Y"), ("A", "C"), ("D",), ("D", "E")),
)

FLAT = Tree("media", "image", "taxonomy", (("A",), ("B",)))


def logits_of(tree: Tree, probabilities: Sequence[Sequence[float]]) -> NDArray[Any]:
    """Return logits whose softmaxes are these conditional probabilities."""
    return np.log(np.array(probabilities, dtype=np.float64))


def load(name: str) -> Any:
    return json.loads((DATA / name).read_text("utf-8"))


def said(annotator: str, *paths: str | TaxonomyPath, minutes: int = 0, **changes: Any) -> Annotation:
    """Return an annotation of `SMALL`; paths may be written "A/B"."""
    changes.setdefault("id", f"{annotator}-{minutes}")
    labels = tuple(tuple(path.split("/")) if isinstance(path, str) else path for path in paths)
    fields: dict[str, Any] = {
        "task_id": "1",
        "annotator": annotator,
        "created_at": START,
        "updated_at": START + timedelta(minutes=minutes),
        "labels": {"media": labels} if labels else {},
        "unknown": (),
        "skipped": False,
        "ground_truth": False,
        "reviewed": False,
    }
    return Annotation(**{**fields, **changes})


def unknown(path: str) -> UnknownPath:
    steps = tuple(path.split("/"))
    return UnknownPath("media", steps, SMALL.nearest(steps), SMALL.known_prefix(steps))


def annotations_of(task: dict[str, Any], config: LabelConfig) -> tuple[Annotation, ...]:
    """Return the annotations of a recorded task, in export or API form."""
    return tuple(parse_annotation(item, config, task_id=str(task["id"])) for item in task["annotations"])


@pytest.fixture
def small() -> Tree:
    return SMALL


@pytest.fixture(scope="session")
def config() -> LabelConfig:
    return parse_label_config(load("project.json")["label_config"])


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Any]:
    return load
