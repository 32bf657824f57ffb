"""What the page of the evaluation shows, for the parameters of its address."""

from __future__ import annotations

from dataclasses import dataclass, replace

from werkzeug.datastructures import MultiDict

from taxonomist.backend.services import Services
from taxonomist.backend.status.evaluation.collect import Evaluated, collect_evaluation
from taxonomist.backend.status.evaluation.comparison import BECAME, LevelChange, VersionComparison, compare_versions
from taxonomist.backend.status.evaluation.curves import (
    CurvePoint,
    ReliabilityBin,
    at_thresholds,
    mean_gap,
    precision_curve,
    reliability,
)
from taxonomist.backend.status.evaluation.images import ChangeImages
from taxonomist.backend.status.evaluation.matrix import confusion_matrix
from taxonomist.backend.status.evaluation.node_scores import NodeRow, node_rows
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes
from taxonomist.backend.web.console.evaluation.address import Address
from taxonomist.backend.web.console.evaluation.charts import curve_chart, reliability_chart
from taxonomist.backend.web.console.evaluation.matrix_table import link_to_images, matrix_table
from taxonomist.backend.web.console.evaluation.wording import level_words, node_words
from taxonomist.backend.web.console.language import Language
from taxonomist.taxonomy.errors import DamagedError

_NODES_SHOWN, _MOST_NODES = 12, 1000


@dataclass(frozen=True)
class NodeLine:
    """A node of the table, with a link to where it is in a matrix."""

    names: tuple[str, ...]
    link: str
    row: NodeRow


@dataclass(frozen=True)
class ChangeLine:
    """What became of the images of a level. `counts` are in the order of `BECAME`, each with a link to its images."""

    name: str
    change: LevelChange
    counts: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Confidence:
    """Two charts with their figures. `suggests` is what the version suggests with its own thresholds."""

    curve: object
    points: tuple[CurvePoint, ...]
    suggests: CurvePoint | None
    reliability: object
    bins: tuple[ReliabilityBin, ...]
    gap: float | None


def evaluation_values(
    services: Services, project: str, arguments: MultiDict[str, str], language: Language
) -> dict[str, object]:
    """Return the values of the template. Raises `NotFoundError` for a parameter that names nothing."""
    address = Address.of(arguments)
    found = collect_evaluation(services, project, address.version, address.control)
    values: dict[str, object] = {"evaluated": found, "controls": _controls(found, address)}
    if found.outcomes is None:
        return values
    outcomes = found.outcomes
    address = replace(address, version=outcomes.version, control=outcomes.tree.control)
    top = replace(address, node=(), focus=None)
    rows = node_rows(outcomes, address.node)
    others = [
        choice.version
        for choice in found.versions
        if outcomes.tree.control in choice.controls and choice.version != outcomes.version
    ]
    than = address.than or next(iter(others), None)
    compared, problem = None, None
    try:
        compared = compare_versions(services, project, outcomes.version, than, outcomes.tree.control) if than else None
    except DamagedError as error:
        problem = str(error)
    return values | {
        "outcomes": outcomes,
        "table": matrix_table(outcomes, confusion_matrix(outcomes, address.node, address.focus), address, language),
        "crumbs": [
            (node_words(name, language), replace(top, node=address.node[: place + 1]).link)
            for place, name in enumerate(address.node)
        ],
        "top": top.link,
        "nodes": [
            NodeLine(
                tuple(node_words(name, language) for name in row.node[len(address.node) :]),
                replace(top, node=row.node[:-1], focus=row.node[-1] or None).link,
                row,
            )
            for row in rows[: _MOST_NODES if address.all_nodes else _NODES_SHOWN]
        ],
        "nodes_left_out": max(len(rows) - _MOST_NODES, 0) if address.all_nodes else 0,
        "more_nodes": (len(rows) - _NODES_SHOWN, replace(address, all_nodes=True).link)
        if len(rows) > _NODES_SHOWN and not address.all_nodes
        else None,
        "confidence": _confidence(outcomes, language),
        "others": others,
        "than": than,
        "kept": [pair for pair in address.pairs if pair[0] != "than"],
        "compared": compared,
        "problem": problem,
        "changes": _changes(compared, outcomes, language) if compared else [],
    }


def _controls(found: Evaluated, address: Address) -> list[tuple[str, str, bool]]:
    """Return name and link of each control, and whether it is shown; nothing for a single one."""
    if len(found.controls) < 2:
        return []
    shown = address.control or found.controls[0]
    return [(name, Address(address.version, name).link, name == shown) for name in found.controls]


def _confidence(outcomes: ControlOutcomes, language: Language) -> Confidence:
    points, suggests, bins = precision_curve(outcomes), at_thresholds(outcomes), reliability(outcomes)
    threshold = suggests.threshold if suggests else None
    return Confidence(
        curve_chart(
            points,
            threshold,
            language.t("threshold"),
            language.t("threshold of {version}", version=outcomes.version),
            language.t("Precision and coverage over the threshold"),
        ),
        points,
        suggests,
        reliability_chart(
            bins, language.t("predicted probability"), language.t("Share that is right, by predicted probability")
        ),
        bins,
        mean_gap(bins),
    )


def _changes(compared: VersionComparison, outcomes: ControlOutcomes, language: Language) -> list[ChangeLine]:
    def count(change: LevelChange, place: int) -> tuple[int, str]:
        became = BECAME[place]
        wanted = ChangeImages(
            compared.version.version, outcomes.tree.control, compared.other.version, change.level, became
        )
        return len(change.images[became]), link_to_images(wanted)

    return [
        ChangeLine(
            level_words(change.level, language), change, tuple(count(change, place) for place in range(len(BECAME)))
        )
        for change in compared.changes
    ]
