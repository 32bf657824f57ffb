"""Trains a project's head from its accepted labels, publishes it as a new version, and promotes it if it is better."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from taxonomist.inference.embedder import BACKBONE_FILE, Embedder
from taxonomist.inference.heads.fusion import FUSION_FILE, save_fusions
from taxonomist.inference.heads.head import HEAD_FILE
from taxonomist.inference.look_alike_projection import PROJECTION_FILE
from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.storage.registry.manifests import NEVER_TESTED, SuggestionFigures, Tested
from taxonomist.taxonomy.errors import ConflictError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import TreeMetrics
from taxonomist.training.heads.data.dataset import (
    Dataset,
    Example,
    SplitExamples,
    build_dataset,
    check_enough,
    split_examples,
)
from taxonomist.training.heads.data.fingerprint import inputs_fingerprint
from taxonomist.training.heads.data.targets import Outputs, nodes_of
from taxonomist.training.heads.data.trained_on import DATA_FILE, ever_trained_on
from taxonomist.training.heads.data.view_embeddings import ReadImage, fill_embeddings
from taxonomist.training.heads.evaluation import (
    Evaluation,
    Together,
    evaluate,
    evaluate_apart,
    evaluate_suggestions,
    evaluate_together,
    metrics_of,
)
from taxonomist.training.heads.learning import Learned, TrainingOptions, learn
from taxonomist.training.heads.promotion.champion import (
    ChampionComparison,
    PredictionsByControl,
    compare_with_champion,
    predict,
)
from taxonomist.training.heads.promotion.decision import left_to_a_person, with_caveats
from taxonomist.training.heads.promotion.unfinished import aliases_digest
from taxonomist.training.heads.report.outcomes import OUTCOMES_FILE, outcomes_record
from taxonomist.training.heads.report.version_files import data_record, write_data, write_report
from taxonomist.training.look_alike_projection import LearnedLookAlikes
from taxonomist.training.product_space import TaughtSpace
from taxonomist.training.split import Part

__all__ = ["Example", "TrainingOptions", "TrainingOutcome", "model_name", "train_project"]


_SHARES = {"embedding": (0.0, 0.3), "training": (0.3, 0.9), "evaluating": (0.9, 0.95), "publishing": (0.95, 1.0)}


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training.

    The caller stores `parts` with the images, and passes them as `Example.part` to the next training. `left_out` has
    the reason for each image that was not used, `metrics` those on the test part by control (empty without one).
    `champion` is the version that was compared, and `champion_metrics` its metrics, None without a comparison.
    `caveats` say what a reader of the metrics must know, see `Tested`.
    """

    version: ModelVersion
    promoted: bool
    reason: str
    metrics: Mapping[str, TreeMetrics]
    parts: Mapping[str, Part]
    left_out: Mapping[str, str]
    champion: str | None = None
    champion_metrics: Mapping[str, TreeMetrics] | None = None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Trained:
    """Everything that a version contains."""

    learned: Learned
    data: Dataset
    test: Mapping[str, Evaluation]
    apart: Mapping[str, Mapping[str, TreeMetrics]]
    together: Mapping[str, Together]
    suggested: Mapping[str, SuggestionFigures]
    predicted: PredictionsByControl  # of the test part
    comparison: ChampionComparison
    tested: Tested
    left_out: Mapping[str, str]
    inputs: str
    look_alikes: LearnedLookAlikes | None
    aliases: str | None  # of the registry before the comparison; None for a version that the caller promotes


def model_name(project: str) -> str:
    """Return the name of a project's head in the registry."""
    return f"project-{project}"


def train_project(
    project: str,
    examples: Sequence[Example] | SplitExamples,
    trees: Sequence[Tree],
    embeddings: Embeddings,
    read_image: ReadImage | None,
    registry: Registry,
    backbone: ModelVersion,
    options: TrainingOptions | None = None,
    progress: StepProgress = ignore_steps,
    *,
    other_embeddings: Mapping[str, Embeddings] | None = None,
    companions: Mapping[str, Sequence[str]] | None = None,
    look_alikes: LearnedLookAlikes | None = None,
    taught: TaughtSpace | None = None,
    promote: bool = True,
    by_hand: bool = False,
) -> TrainingOutcome:
    """Train, calibrate, test and publish a head for `project`; promote it unless it is worse than the champion.

    `examples` are split into parts, unless the caller has done so with `split_examples`. `embeddings` is the store of
    `backbone`; images that it lacks are read by `read_image` and embedded, or left out with the reason. A champion of
    another backbone is compared only when `other_embeddings` has the store of that backbone's version. `companions` has
    the ids of images without labels by product: those that are embedded are learned with its labels. `look_alikes`
    is what the version gets for its look-alikes, `taught` the space in which its discriminants learn where the
    labels are likelier. Without
    `promote` the version stays a candidate, for callers that decide on several heads together; with `by_hand` it stays
    one until a person promotes it. `progress` gets the
    steps "embedding", "training", "evaluating" and "publishing", with the share of the whole that is done.

    A killed training leaves only embeddings and whole versions, and the next one reuses them. Return the outcome.
    Raises TrainingError when there are too few labels, StorageError when a store fails.
    """
    started = time.monotonic()
    options = options or TrainingOptions()
    report = _of_whole(progress)
    if not isinstance(examples, SplitExamples):
        examples = split_examples(examples, trees, options.test_share, options.seed)
    drawn_again = examples.drawn_again
    usable, parts = list(examples.usable), examples.parts
    check_enough(usable, trees, examples.left_out)
    left_out = dict(examples.left_out) | fill_embeddings(
        [example.id for example in usable],
        [options.views_read if parts[example.id] == "train" else 0 for example in usable],
        embeddings,
        read_image,
        lambda: Embedder(backbone.path / BACKBONE_FILE),
        lambda share: report("embedding", share),
    )
    usable = [example for example in usable if example.id not in left_out]
    check_enough(usable, trees, left_out)
    outputs = Outputs(tuple(trees))
    data = build_dataset(
        usable,
        parts,
        outputs,
        embeddings,
        views=options.views_read,
        validation_share=options.share_held_out,
        seed=options.seed,
        companions=companions,
        taught=taught,
    )
    learned = learn(data, outputs, options, report)
    report("evaluating", 0.0)
    labels = [example.labels for example in data.scored]
    test = evaluate(learned.head, trees, data.test_x, labels)
    prefilled = [example.prefilled for example in data.scored]
    apart = evaluate_apart(learned.head, trees, data.test_x, labels, prefilled)
    suggested = evaluate_suggestions(learned.head, trees, data.test_x, labels, learned.calibration)
    groups = [example.group for example in data.scored]
    together = evaluate_together(learned.head, learned.fusions, trees, data.test_x, labels, groups)
    predicted = predict(learned.head, {tree.control: tree for tree in trees}, trees, data.test_x, learned.calibration)
    stores = {**(other_embeddings or {}), backbone.version: embeddings}
    aliases = aliases_digest(registry, model_name(project)) if promote else None
    served = registry.champion(model_name(project))
    comparison = compare_with_champion(
        registry,
        model_name(project),
        trees,
        data.scored,
        predicted,
        stores,
        images=len(data.train) + len(data.validation),
        drawn_again=drawn_again,
    )
    tested = _tested(data)
    compared = comparison.champion or comparison.left_out
    shown = tested.caveats if compared else [note for note in tested.caveats if note == NEVER_TESTED]
    comparison = replace(comparison, decision=with_caveats(comparison.decision, shown))
    if by_hand:
        comparison = replace(comparison, decision=left_to_a_person(comparison.decision))
    inputs = inputs_fingerprint(usable, parts, trees, backbone.version, asdict(options))
    trained = _Trained(
        learned,
        data,
        test,
        apart,
        together,
        suggested,
        predicted,
        comparison,
        tested,
        left_out,
        inputs,
        look_alikes,
        aliases,
    )
    report("publishing", 0.0)
    manifest = _manifest(project, backbone, trees, trained, options)
    version = _publish(registry, project, trees, trained, manifest, started)
    promoted, reason = promote and comparison.decision.promote, comparison.decision.reason
    if promoted:
        try:
            registry.promote_together({version.name: version.version}, instead_of={version.name: served})
        except ConflictError:
            promoted, reason = False, "Meanwhile another version was promoted, with which it was not compared."
    report("publishing", 1.0)
    return TrainingOutcome(
        version,
        promoted,
        reason,
        metrics_of(test),
        parts,
        left_out,
        comparison.version,
        metrics_of(comparison.champion) if comparison.champion is not None else None,
        tested.caveats,
    )


def _of_whole(progress: StepProgress) -> StepProgress:
    """Return a `StepProgress` that takes the share of each step, and reports that of the whole."""

    def report(step: str, share: float) -> None:
        start, end = _SHARES[step]
        progress(step, start + (end - start) * share)

    return report


def _manifest(
    project: str, backbone: ModelVersion, trees: Sequence[Tree], trained: _Trained, options: TrainingOptions
) -> dict[str, Any]:
    champion = trained.comparison.champion
    decision = trained.comparison.decision
    return {
        "kind": "head",
        "project": project,
        "backbone": backbone.version,
        "trees": [tree.to_json() for tree in trees],
        "calibration": {control: calibration.to_json() for control, calibration in trained.learned.calibration.items()},
        "fused": {control: calibration.to_json() for control, calibration in trained.learned.fused.items()},
        "purity": {control: [asdict(level) for level in levels] for control, levels in trained.learned.purity.items()},
        "metrics": _metrics_json(trained.test),
        "suggested": {control: figures.model_dump() for control, figures in trained.suggested.items()},
        "champion_metrics": _metrics_json(champion) if champion is not None else None,
        "promotion": {
            "promoted": decision.promote and trained.aliases is not None,
            "reason": decision.reason,
            "figures": asdict(decision.figures) if decision.figures is not None else None,
            "aliases": trained.aliases,
        },
        "tested": trained.tested.model_dump(),
        "look_alikes": trained.look_alikes.figures.model_dump() if trained.look_alikes else None,
        "spaces": {control: space.model_dump() for control, space in trained.learned.spaces.items()},
        "settings": asdict(options),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tested(data: Dataset) -> Tested:
    """Return what the figures of a version rest on."""
    examples = (*data.train, *data.validation, *data.test)
    untested = _untested(data)
    named = Counter(control for control, *_ in nodes_of(example.labels for example in examples))
    pairs = [pair for pair in zip(data.test, data.scored, strict=True) if pair[1].labels]
    return Tested(
        images=len(pairs),
        products=len({example.product for example, _ in pairs}),
        labelled=len(examples),
        without_product=sum(example.group is None for example in examples),
        shortened=sum(example.labels != scored.labels for example, scored in pairs),
        nodes=named,
        untested={control: len(nodes) for control, nodes in untested.items()},
    )


def _untested(data: Dataset) -> dict[str, list[TaxonomyPath]]:
    """Return by control the nodes that a label names and no test image is scored on, in order."""
    named = nodes_of(example.labels for example in (*data.train, *data.validation, *data.test))
    untested: dict[str, list[TaxonomyPath]] = {}
    for control, *path in sorted(named - nodes_of(example.labels for example in data.scored)):
        untested.setdefault(control, []).append(tuple(path))
    return untested


def _metrics_json(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {control: metrics.to_json() for control, metrics in metrics_of(evaluations).items()}


def _publish(
    registry: Registry,
    project: str,
    trees: Sequence[Tree],
    trained: _Trained,
    manifest: dict[str, Any],
    started: float,
) -> ModelVersion:
    """Write all files and publish them as a version in one step; return the version."""
    data = trained.data
    earlier = ever_trained_on(registry, model_name(project))
    record = data_record((*data.train, *data.validation, *data.test), data.roles, earlier)
    with registry.stage(model_name(project)) as folder:
        trained.learned.head.save(folder / HEAD_FILE)
        if trained.learned.fusions:
            save_fusions(folder / FUSION_FILE, trained.learned.fusions)
        if trained.look_alikes and trained.look_alikes.projection:
            trained.look_alikes.projection.save(folder / PROJECTION_FILE)
        write_data(folder / DATA_FILE, record)
        write_data(folder / OUTCOMES_FILE, outcomes_record(trees, data.scored, trained.predicted))
        write_report(
            folder,
            training=trained.learned.training,
            calibration=trained.learned.calibration,
            test=trained.test,
            apart=trained.apart,
            fused=trained.learned.fused,
            together=trained.together,
            suggested=trained.suggested,
            validation=trained.learned.validation,
            champion=trained.comparison.champion,
            decision=trained.comparison.decision,
            left_out=trained.left_out,
            tested=trained.tested,
            look_alikes=trained.look_alikes.figures if trained.look_alikes else None,
            untested=_untested(data),
            spaces=trained.learned.spaces,
        )
        summary = {
            "fingerprint": record["fingerprint"],
            "count": record["count"],
            "left_out": len(trained.left_out),
            "inputs": trained.inputs,
        }
        duration = {"duration_s": round(time.monotonic() - started, 2)}
        return registry.publish(model_name(project), folder, {**manifest, "data": summary, **duration})
