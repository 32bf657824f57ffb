"""The end of `taxonomist train`: the figures of the new version and of the one before, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from taxonomist.backend.cli.output import print_fields, print_line, print_table
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.retraining.training_result import ControlResult, TrainingResult


def as_document(result: TrainingResult) -> dict[str, Any]:
    """Return what `train --json` prints besides the summary of the version, which has some of the names."""
    controls = {
        found.control: asdict(found) | {"suggested": found.suggested.model_dump() if found.suggested else None}
        for found in result.controls
    }
    return {
        "project": result.project,
        "outcome": result.outcome,
        "trained": result.trained,
        "served": result.served,
        "champion_before": result.champion_before,
        "test_products": result.test_products,
        "controls": controls,
        "comparison": asdict(result.comparison) if result.comparison else None,
        "report": result.report,
        "next": list(result.next_steps),
    }


def print_result(result: TrainingResult) -> None:
    """Print the result for a person."""
    print_line(result.outcome)
    name = model_version_name(result.version)
    before = model_version_name(result.champion_before) if result.champion_before else "none"
    print_fields(
        {
            "version": f"{name}, {'served' if result.served else 'a candidate'}",
            "served before": before,
            "labelled images": f"{result.labels}, {result.left_out} left out" if result.left_out else result.labels,
            "tested on": _tested(result),
            **{f"promise, {found.control}": found.promise for found in result.controls},
            **{f"coverage, {found.control}": text for found in result.controls if (text := _coverage(found))},
        }
    )
    is_compared = result.trained and before != "none" and (result.comparison or _has_before(result))
    rows = [row for found in result.controls for row in _rows(found, several=len(result.controls) > 1)]
    if (figures := result.comparison) and is_compared and not _has_before(result):
        where = f"on {figures.labels} labels of {figures.products} products"
        rows.append((f"hierarchical F1 {where}", f"{figures.f1:.3f}", f"{figures.champion_f1:.3f}"))
    if rows:
        columns = ["on the test images", name, *([before] if is_compared else [])]
        print_table("Figures", columns, [row[: len(columns)] for row in rows])
    print_line(f"Report: {result.report / 'report.md'}")
    print_line(f"What is taken for what: {result.report / 'confusion-*.csv'}")
    for step in result.next_steps:
        print_line(f"Next: {step}")


def _has_before(result: TrainingResult) -> bool:
    return any(found.metrics_before for found in result.controls)


def _tested(result: TrainingResult) -> str:
    if not result.test_images:
        return "no image yet"
    notes = f" ({', '.join(result.caveats)})" if result.caveats else ""
    return f"{result.test_images} unseen images of {result.test_products} products{notes}"


def _coverage(found: ControlResult) -> str:
    if not (figures := found.suggested):
        return ""
    listed = f", {figures.listed} a shortlist" if figures.listed else ""
    right = f"; {figures.right} of {figures.judged} are right" if figures.judged else ""
    return f"{figures.suggested} of {figures.images} test images get a path{listed}{right}"


def _rows(found: ControlResult, *, several: bool) -> Iterator[tuple[str, str, str]]:
    if found.metrics is None:
        return
    of, before = f"{found.control}: " if several else "", found.metrics_before
    for name, field in (("hierarchical F1", "hierarchical_f1"), ("macro-F1", "macro_f1")):
        yield f"{of}{name}", f"{getattr(found.metrics, field):.3f}", f"{getattr(before, field):.3f}" if before else ""
    accuracy = {level.level: level.accuracy for level in before.levels} if before else {}
    for level in found.metrics.levels:
        former = f"{accuracy[level.level]:.3f}" if level.level in accuracy else ""
        yield f"{of}accuracy at level {level.level}", f"{level.accuracy:.3f}", former
