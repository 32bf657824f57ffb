"""The files of a head's version for people: reports, learning curves, confusion matrices, and the training data."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from taxonomist.storage.formats import FORMAT
from taxonomist.storage.registry.manifests import (
    TOGETHER,
    LookAlikeFigures,
    SpaceFigures,
    SuggestionFigures,
    Tested,
)
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree_metrics import TreeMetrics
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.data.trained_on import TrainedOn
from taxonomist.training.heads.evaluation import NO_PREDICTION, Evaluation, LevelReport, Together
from taxonomist.training.heads.head_options import TrainedHead
from taxonomist.training.heads.promotion.decision import Decision
from taxonomist.training.heads.report.confusions import confusions, write_confusions

Evaluations = Mapping[str, Evaluation]
_NO_PLOTS = "Nothing is plotted: matplotlib is missing. Install it with `pip install 'label-studio-taxonomist[plots]'`."
_CONFUSIONS = 20  # of a level in the text report; its CSV has all
_ROWS = 60  # classes of a level in the text report; report.json has all


def data_record(examples: Sequence[Example], roles: Mapping[str, str], earlier: TrainedOn) -> dict[str, Any]:
    """Return the images of a version, with part, labels, file hash and product, and a fingerprint (sha256) of them all.

    `earlier` is what earlier versions have learned from; the rest of it is kept with the version.
    """
    images = [
        {
            "id": example.id,
            "part": roles[example.id],
            "file_hash": example.file_hash,
            "product": example.group,
            "labels": {control: sorted(map(list, paths)) for control, paths in sorted(example.labels.items())},
        }
        for example in sorted(examples, key=lambda example: example.id)
    ]
    text = json.dumps(images, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    rest = earlier - TrainedOn(
        frozenset(example.id for example in examples),
        frozenset(example.file_hash for example in examples if example.file_hash),
        frozenset(example.group for example in examples if example.group),
    )
    return {
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "count": len(images),
        "images": images,
        "earlier": rest.to_json(),
    }


def write_report(
    folder: Path,
    *,
    training: TrainedHead | None,
    calibration: Mapping[str, Calibration],
    fused: Mapping[str, Calibration],
    together: Mapping[str, Together],
    suggested: Mapping[str, SuggestionFigures],
    test: Evaluations,
    apart: Mapping[str, Mapping[str, TreeMetrics]],
    validation: Evaluations,
    champion: Evaluations | None,
    decision: Decision,
    left_out: Mapping[str, str],
    tested: Tested,
    look_alikes: LookAlikeFigures | None,
    untested: Mapping[str, Sequence[TaxonomyPath]],
    spaces: Mapping[str, SpaceFigures],
) -> None:
    """Write report.json, report.md and for each level a confusion-<control>-<level>.csv and .png, and curves.json and
    curves.png where the head was trained in epochs. Without matplotlib nothing is drawn, and report.md says so.

    The matrices are those of the test part, or of the validation part while there is no test part. `apart` are the
    metrics of `evaluate_apart`, `untested` has the nodes without a test image, by control.
    """
    calibrated_on = "Validation images" if training is not None else "Training images by models without their products"
    report = {
        "test": _json_of(test),
        "test_by_prefilling": {
            name: {control: metrics.to_json() for control, metrics in found.items()} for name, found in apart.items()
        },
        "suggested": {control: found.model_dump() for control, found in suggested.items()},
        "test_together": {control: asdict(found) for control, found in together.items()},
        "validation": _json_of(validation),
        "champion_on_test": _json_of(champion) if champion is not None else None,
        "promotion": asdict(decision),
        "left_out": dict(left_out),
        "look_alikes": look_alikes.model_dump() if look_alikes else None,
        "spaces": {control: space.model_dump() for control, space in spaces.items()},
        "tested": tested.model_dump() | {"caveats": list(tested.caveats)},
        "nodes_without_test_images": {control: list(map(list, nodes)) for control, nodes in untested.items()},
    }
    write_json(folder / "report.json", report)
    can_plot = find_spec("matplotlib") is not None
    lines = _suggestions(calibration, fused, together, suggested) + _spaces(spaces) + _look_alikes(look_alikes)
    text = _markdown(lines, test, apart, validation, calibrated_on, decision, left_out, tested, untested)
    (folder / "report.md").write_text(text if can_plot else f"{text}\n{_NO_PLOTS}\n", encoding="utf-8")
    if training is not None:
        curves = {"best": training.best, "epochs": [asdict(epoch) for epoch in training.curves]}
        write_json(folder / "curves.json", curves)
    part, evaluations = ("test images", test) if test else (calibrated_on.lower(), validation)
    for control, evaluation in evaluations.items():
        for level in evaluation.levels:
            write_confusions(level, folder / f"{_confusion_name(control, level)}.csv")
    if can_plot:
        _draw(folder, training, (part, evaluations))


def _draw(folder: Path, training: TrainedHead | None, shown: tuple[str, Evaluations]) -> None:
    """Draw the learning curves and the confusion matrices."""
    from taxonomist.training.heads.report.plots import plot_confusion, plot_curves  # noqa: PLC0415 - an extra

    if training is not None:
        plot_curves(training.curves, training.best, folder / "curves.png")
    part, evaluations = shown
    for control, evaluation in evaluations.items():
        for level in evaluation.levels:
            title = f"{control}, level {level.level}, {part}"
            plot_confusion(level, title, folder / f"{_confusion_name(control, level)}.png")


def _confusion_name(control: str, level: LevelReport) -> str:
    safe_name = re.sub(r"[^\w.-]", "_", control)
    return f"confusion-{safe_name}-{level.level}"


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON in UTF-8 with the number of its format; numbers that are not finite become null."""
    path.write_text(
        json.dumps({FORMAT: 1, **_finite(data)}, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
    )


def write_data(path: Path, record: Mapping[str, Any]) -> None:
    """Write a `data_record` in JSON, with a line for each image: Python indents slowly."""
    lines = (
        f" {json.dumps(key)}: "
        + ("[\n  " + ",\n  ".join(map(_compact, value)) + "\n ]" if isinstance(value, list) else _compact(value))
        for key, value in {FORMAT: 1, **record}.items()
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}", encoding="utf-8")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _json_of(evaluations: Evaluations) -> dict[str, Any]:
    return {control: evaluation.to_json() for control, evaluation in evaluations.items()}


def _suggestions(
    calibration: Mapping[str, Calibration],
    fused: Mapping[str, Calibration],
    together: Mapping[str, Together],
    suggested: Mapping[str, SuggestionFigures],
) -> list[str]:
    lines = [f"- Suggestions, {control}: {used.describe()}." for control, used in calibration.items()]
    lines += [
        f"- Of {found.images} test images, {found.suggested} get a path as the suggestion for {control}, and "
        f"{found.listed} a shortlist; {found.right} of the {found.judged} paths that labels judge are right."
        for control, found in suggested.items()
    ]
    lines += [f"- Suggestions, {control}, {TOGETHER}: {used.describe()}." for control, used in fused.items()]
    for control, found in together.items():
        scores = [metrics.hierarchical_f1 for metrics in (found.together, found.alone)]
        lines.append(
            f"- {found.images} test images have others of their product in the test part. Predicted together with "
            f"these, {control} has a hierarchical F1 of {scores[0]:.3f}; alone, {scores[1]:.3f}."
        )
    return lines


def _spaces(spaces: Mapping[str, SpaceFigures]) -> list[str]:
    return [
        f"- {control} is predicted {'in' if space.served else 'without'} a space of {space.dimension} numbers learned "
        f"from {space.images} images of {space.products} products. Models without a label's product give it a log-loss "
        f"of {space.log_loss[1]:.3f} in the space, {space.log_loss[0]:.3f} without it."
        for control, space in spaces.items()
    ]


def _look_alikes(figures: LookAlikeFigures | None) -> list[str]:
    if figures is None:
        return []
    (product, projected), (labels, projected_labels) = figures.same_product, figures.same_labels
    used = "compared" if figures.served else "not compared"
    return [
        f"- Look-alikes are {used} in a space learned from {figures.images} images of {figures.products} products. On "
        f"{figures.held_out} other products, the nearest image shows the same product for {projected:.3f} of the "
        f"images, {product:.3f} without it; the nearest labelled image has {projected_labels:.3f} of the label, "
        f"{labels:.3f} without it."
    ]


def _markdown(
    suggested: Sequence[str],
    test: Evaluations,
    apart: Mapping[str, Mapping[str, TreeMetrics]],
    validation: Evaluations,
    calibrated_on: str,
    decision: Decision,
    left_out: Mapping[str, str],
    tested: Tested,
    untested: Mapping[str, Sequence[TaxonomyPath]],
) -> str:
    outcome = "Promoted" if decision.promote else "Kept as a candidate"
    lines = ["# Classification report", "", f"{outcome}: {decision.reason}", "", *_tested(tested)]
    lines += suggested
    for part, evaluations in (("Test images", test), (calibrated_on, validation)):
        for control, evaluation in evaluations.items():
            lines += ["", f"## {part}, {control}", *_summary(evaluation)]
            if evaluations is test:
                lines += _apart({name: found[control] for name, found in apart.items() if control in found})
            if evaluations is test or not test:
                for level in evaluation.levels:
                    lines += _level_table(level) + _confusion_table(level, _confusion_name(control, level))
    for control, nodes in untested.items():
        title = f"## Nodes without test images, {control} ({len(nodes)} of {tested.nodes[control]})"
        lines += ["", title, "", "No figure above says anything about them.", ""]
        lines += [f"- {_cell(format_path(node))}" for node in nodes]
    if left_out:
        lines += ["", f"## Left out ({len(left_out)})", "", *(f"- {id}: {why}" for id, why in sorted(left_out.items()))]
    return "\n".join(lines) + "\n"


def _tested(tested: Tested) -> list[str]:
    lines = [f"- {caveat.capitalize()}." for caveat in tested.caveats]
    if tested.images:
        lines.append(f"- The test part has {tested.images} images of {tested.products} products.")
    if tested.shortened:
        lines.append(
            f"- {tested.shortened} of them show a node that training does not know; they are scored down to the "
            "deepest node that it knows."
        )
    return lines


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


def _apart(found: Mapping[str, TreeMetrics]) -> list[str]:
    """Return the figures of labels from pre-filled and from unfilled tasks, beside each other."""
    if not found:
        return []
    rows = [
        f"| {name} | {metrics.levels[0].support} | {metrics.hierarchical_f1:.3f} | "
        f"{', '.join(f'{level.accuracy:.3f}' for level in metrics.levels)} |"
        for name, metrics in found.items()
    ]
    return [
        "",
        "People who see a suggestion agree with it more often, so labels of pre-filled tasks may flatter the model:",
        "",
        "| tasks | images | hierarchical F1 | accuracy by level |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _level_table(level: LevelReport) -> list[str]:
    rows = sorted((row for row in level.classes if row.name != NO_PREDICTION), key=lambda row: -row.support)
    table = [
        f"| {_cell(row.name)} | {row.precision:.2f} | {row.recall:.2f} | {row.f1:.2f} | {row.support} |"
        for row in rows[:_ROWS]
    ]
    more = [f"{len(rows) - _ROWS} more classes are in report.json."] if len(rows) > _ROWS else []
    head = ["| class | precision | recall | F1 | images |", "| --- | --- | --- | --- | --- |"]
    return ["", f"### Level {level.level}", "", *head, *table, *([""] if more else []), *more]


def _confusion_table(level: LevelReport, name: str) -> list[str]:
    """Return the most frequent confusions of a level, and where all of them are."""
    found = confusions(level)
    if not found:
        return []
    rows = [
        f"| {_cell(cell.true)} | {_cell(cell.predicted)} | {cell.images} | {cell.share:.2f} |"
        for cell in found[:_CONFUSIONS]
    ]
    head = ["| true | predicted | images | of the true class |", "| --- | --- | --- | --- |"]
    more = f"The {len(rows)} most frequent of {len(found)} confusions; {name}.csv has all."
    return ["", more, "", *head, *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
