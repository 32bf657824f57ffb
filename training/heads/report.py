"""The files of a head's version for people: reports, learning curves, confusion matrices, and the training data."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taxonomist.storage.formats import FORMAT
from taxonomist.training.heads.dataset import Example
from taxonomist.training.heads.evaluation import Evaluation, LevelReport
from taxonomist.training.heads.head import TrainedHead
from taxonomist.training.heads.plots import plot_confusion, plot_curves
from taxonomist.training.heads.promotion import Decision

Evaluations = Mapping[str, Evaluation]
_ROWS = 60  # classes of a level in the text report; report.json has all


def data_record(examples: Sequence[Example], roles: Mapping[str, str]) -> dict[str, Any]:
    """Return the images of a version, with part, labels and file hash, and a fingerprint (sha256) of them all."""
    images = [
        {
            "id": example.id,
            "part": roles[example.id],
            "file_hash": example.file_hash,
            "labels": {control: sorted(map(list, paths)) for control, paths in sorted(example.labels.items())},
        }
        for example in sorted(examples, key=lambda example: example.id)
    ]
    text = json.dumps(images, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest(), "count": len(images), "images": images}


def write_report(
    folder: Path,
    *,
    head: TrainedHead,
    test: Evaluations,
    validation: Evaluations,
    champion: Evaluations | None,
    decision: Decision,
    left_out: Mapping[str, str],
) -> None:
    """Write report.json, report.md, curves.json, curves.png and a confusion-<control>-<level>.png for each level.

    The matrices are those of the test part, or of the validation part while there is no test part.
    """
    report = {
        "test": _json_of(test),
        "validation": _json_of(validation),
        "champion_on_test": _json_of(champion) if champion is not None else None,
        "promotion": asdict(decision),
        "left_out": dict(left_out),
    }
    write_json(folder / "report.json", report)
    (folder / "report.md").write_text(_markdown(test, validation, decision, left_out), encoding="utf-8")
    write_json(folder / "curves.json", {"best": head.best, "epochs": [asdict(epoch) for epoch in head.curves]})
    plot_curves(head.curves, head.best, folder / "curves.png")
    part, shown = ("test", test) if test else ("validation", validation)
    for control, evaluation in shown.items():
        for level in evaluation.levels:
            safe_name = re.sub(r"[^\w.-]", "_", control)
            title = f"{control}, level {level.level}, {part} images"
            plot_confusion(level, title, folder / f"confusion-{safe_name}-{level.level}.png")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON in UTF-8 with the number of its format; numbers that are not finite become null."""
    path.write_text(
        json.dumps({FORMAT: 1, **_finite(data)}, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
    )


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _json_of(evaluations: Evaluations) -> dict[str, Any]:
    return {control: evaluation.to_json() for control, evaluation in evaluations.items()}


def _markdown(test: Evaluations, validation: Evaluations, decision: Decision, left_out: Mapping[str, str]) -> str:
    outcome = "Promoted" if decision.promote else "Kept as a candidate"
    lines = ["# Classification report", "", f"{outcome}: {decision.reason}"]
    for part, evaluations in (("Test", test), ("Validation", validation)):
        for control, evaluation in evaluations.items():
            lines += ["", f"## {part} images, {control}", *_summary(evaluation)]
            if part == "Test" or not test:
                for level in evaluation.levels:
                    lines += _level_table(level)
    if left_out:
        lines += ["", f"## Left out ({len(left_out)})", "", *(f"- {id}: {why}" for id, why in sorted(left_out.items()))]
    return "\n".join(lines) + "\n"


def _summary(evaluation: Evaluation) -> list[str]:
    metrics = evaluation.metrics
    rows = [f"| {m.level} | {m.accuracy:.3f} | {m.macro_f1:.3f} | {m.support} |" for m in metrics.levels]
    return [
        "",
        "| level | accuracy | macro-F1 | images |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Hierarchical F1 {metrics.hierarchical_f1:.3f} "
        f"(precision {metrics.hierarchical_precision:.3f}, recall {metrics.hierarchical_recall:.3f}).",
    ]


def _level_table(level: LevelReport) -> list[str]:
    rows = sorted(level.classes, key=lambda row: -row.support)
    table = [
        f"| {_cell(row.name)} | {row.precision:.2f} | {row.recall:.2f} | {row.f1:.2f} | {row.support} |"
        for row in rows[:_ROWS]
    ]
    more = [f"{len(rows) - _ROWS} more classes are in report.json."] if len(rows) > _ROWS else []
    head = ["| class | precision | recall | F1 | images |", "| --- | --- | --- | --- | --- |"]
    return ["", f"### Level {level.level}", "", *head, *table, *([""] if more else []), *more]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
