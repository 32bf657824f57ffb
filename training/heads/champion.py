"""Compares a challenger with the champion on the same test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taxonomist.inference.head_weights import HEAD_FILE, HeadWeights
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.dataset import Example
from taxonomist.training.heads.evaluation import Evaluation, evaluate_predictions, metrics_of, predict_paths
from taxonomist.training.heads.promotion import Decision, decide_promotion, decide_without_comparison
from taxonomist.training.heads.trained_on import TrainedOn, trained_on


@dataclass(frozen=True)
class ChampionComparison:
    """`champion` is its evaluation on the test images, None when there is none; `version` is the champion's."""

    champion: Mapping[str, Evaluation] | None
    decision: Decision
    version: str | None = None


def compare_with_champion(
    registry: Registry,
    name: str,
    trees: Sequence[Tree],
    test: Sequence[Example],
    challenger: Mapping[str, Evaluation],
    stores: Mapping[str, Embeddings],
    *,
    drawn_again: bool = False,
) -> ChampionComparison:
    """Return whether the challenger, evaluated on `test`, may replace the champion of `name`.

    There is no comparison where the test part was `drawn_again`, or where the champion has learned from one of its
    products.
    `stores` are the embeddings by version of the backbone. Both are scored on today's taxonomy: where it has changed
    since the champion was trained, labels that the champion does not know count against it, as they would in serving. A
    champion that cannot be read is replaced.
    """
    champion_version = registry.champion(name)
    if champion_version is None:
        return ChampionComparison(None, decide_promotion(metrics_of(challenger), None))
    try:
        version = registry.get(name, champion_version)
        known = _learned(trained_on(version), test)
        if drawn_again or known:
            decision = decide_without_comparison(champion_version, known, len(test))
            return ChampionComparison(None, decision, champion_version)
        champion = evaluate_champion(version, trees, test, stores)
    except (NotFoundError, DamagedError, ConfigError, KeyError, ValueError) as error:
        return ChampionComparison(
            None, Decision(True, f"The champion {champion_version} cannot be used: {error}"), champion_version
        )
    metrics = metrics_of(champion) if champion is not None else None
    return ChampionComparison(
        champion, decide_promotion(metrics_of(challenger), metrics, champion_version=champion_version), champion_version
    )


def evaluate_champion(
    version: ModelVersion, trees: Sequence[Tree], test: Sequence[Example], stores: Mapping[str, Embeddings]
) -> dict[str, Evaluation] | None:
    """Return the evaluation of a published head on the test images, by control; None without their embeddings.

    Raises DamagedError, ConfigError or KeyError when the version's files are not those of a head.
    """
    head = HeadWeights.load(version.path / HEAD_FILE)
    known = version.head_manifest.trees_by_control
    store = stores.get(version.head_manifest.backbone)
    if store is None:
        return None
    found, x = store.get([example.id for example in test])
    if not found.all():
        return None
    logits = head.logits(x) if len(x) else {}
    labels = [example.labels for example in test]
    evaluations = {}
    for tree in trees:
        if tree.control in logits:
            predictions = predict_paths(known[tree.control], logits[tree.control])
            if evaluation := evaluate_predictions(tree, labels, predictions):
                evaluations[tree.control] = evaluation
    return evaluations


def _learned(learned: TrainedOn, test: Sequence[Example]) -> int:
    """Return how many test images show a product that is among what was learned."""
    products = {example.product for example in test if learned.knows(example.id, example.file_hash, example.group)}
    return sum(example.product in products for example in test)
