"""What the doctor says of the agreement between annotators."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.services import Services
from taxonomist.backend.state.suggestions import StoredSuggestion
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import AnnotationSaved, TaskSaved
from tests.backend.connection.doctor.conftest import seen
from tests.small_world import CONFIG as COLOURS
from tests.small_world import image_bytes

DAY = datetime(2026, 1, 5, tzinfo=UTC)


def annotation(id: str, task: str, person: int, path: list[str]) -> dict[str, Any]:
    """Return what Label Studio sends of an annotation."""
    region = {"from_name": "colour", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [path]}}
    at = DAY.isoformat()
    return {"id": id, "task": task, "completed_by": person, "created_at": at, "updated_at": at, "result": [region]}


def test_how_well_annotators_agree(services: Services, tmp_path: Path) -> None:
    """Both annotators agree on two of four images: half of the pairs."""
    rows = ["file,level1,level2,annotator"]
    opinions = [("Warm", "Red", "Warm", "Red"), ("Cold", "Blue", "Cold", "Blue"), ("Warm", "Red", "Cold", "Blue")]
    opinions.append(("Cold", "Green", "Warm", "Yellow"))
    for number, (first, below_first, second, below_second) in enumerate(opinions):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(("Warm", "Red"), number))
        rows += [f"{number}.jpg,{first},{below_first},anna", f"{number}.jpg,{second},{below_second},bela"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    services.projects.update("furniture", label_config=COLOURS)
    assert "no image was labelled by two" in seen(services, "furniture")["agreement"].detail
    import_manifest(services, tmp_path / "manifest.csv", "furniture")
    check = seen(services, "furniture")["agreement"]
    # Krippendorff's alpha by hand: 4 of 8 values of each class, observed (2 + 2) / 8, expected 2 * 4 * 4 / (8 * 7)
    alpha = 1 - (4 / 8) / (32 / 56)
    assert check.status == "warn"
    assert check.detail.startswith(f"level 1: alpha {alpha:.2f}, 50% of pairs, 4 images; level 2: ")


def test_who_guesses_is_named(services: Services, tmp_path: Path) -> None:
    """Three people agree on 60 images, "carl@example.com" names the same path on each."""
    nodes = [("Warm", "Red"), ("Warm", "Yellow"), ("Cold", "Blue"), ("Cold", "Green")]
    rows = ["file,level1,level2,annotator"]
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(("Warm", "Red"), number))
        top, below = nodes[number % 4]
        rows += [f"{number}.jpg,{top},{below},{name}" for name in ("anna", "bela", "dora")]
        rows += [f"{number}.jpg,Warm,Red,carl@example.com"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    services.projects.update("furniture", label_config=COLOURS)
    import_manifest(services, tmp_path / "manifest.csv", "furniture")
    check = seen(services, "furniture")["guessing"]
    assert check.status == "warn"
    assert "annotator carl is right in" in check.detail
    assert "anna" not in check.detail
    assert "example.com" not in check.detail


def test_pre_filled_tasks_are_shown_apart(services: Services) -> None:
    """Two people answer a suggestion on one image and agree; on another image, without one, they differ."""
    services.projects.update("7", label_config=COLOURS, created="2026-01-05T00:00:00Z")
    source = services.projects.get("7").source
    answers = {"1": (["Warm", "Red"], ["Warm", "Red"]), "2": (["Warm", "Red"], ["Cold", "Blue"])}
    for task, paths in answers.items():
        uri = f"/data/upload/7/{task}.jpg"
        services.journal.record([TaskSaved("7", source, task, uri, DAY)])
        for person, path in enumerate(paths, start=1):
            data = annotation(f"{task}{person}", task, person, path)
            services.journal.record([AnnotationSaved("7", source, f"{task}{person}", task, uri, DAY, DAY, data)])
    services.journal.fold()
    shown = StoredSuggestion(
        "1", "colour", "v1", image_id("/data/upload/7/1.jpg"), ("Warm",), 0.9, DAY.timestamp() - 60
    )
    services.suggestions.add("7", [shown])
    check = seen(services, "7")["agreement of pre-filled tasks"]
    pre, unfilled = check.detail.split("; unfilled: ")
    assert pre.startswith("pre-filled: level 1: alpha undefined, 100% of pairs, 1 images")
    assert unfilled.startswith("level 1: alpha 0.00, 0% of pairs, 1 images")
