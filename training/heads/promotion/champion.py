"""Compares a challenger with the champion on the same test images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taxonomist.inference.heads.head import HEAD_FILE, load_head
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.data.trained_on import TrainedOn, trained_on
from taxonomist.training.heads.evaluation import Evaluation, evaluate_predictions, metrics_of, most_likely_paths
from taxonomist.training.heads.promotion.decision import (
    Decision,
    decide_promotion,
    decide_without_comparison,
    with_caveats,
)


@dataclass(frozen=True)
class ChampionComparison:
    """`champion` is its evaluation on all test images, None when there is none; `version` is the champion's.

    `left_out` test images took no part in the comparison, since the champion has learned from their products.
    """

    champion: Mapping[str, Evaluation] | None
    decision: Decision
    version: str | None = None
    left_out: int = 0


def compare_with_champion(
    registry: Registry,
    name: str,
    trees: Sequence[Tree],
    test: Sequence[Example],
    challenger: Mapping[str, Evaluation],
    stores: Mapping[str, Embeddings],
    *,
    evaluate_some: Callable[[Sequence[int]], Mapping[str, Evaluation]],
    drawn_again: bool = False,
) -> ChampionComparison:
    """Return whether the challenger, evaluated on `test`, may replace the champion of `name`.

    Test images of products that the champion has learned from are left out of the comparison; `evaluate_some` returns
    the challenger's evaluation on the test images of these indices. There is no comparison where no test image is left,
    or where the test part was `drawn_again`.
    `stores` are the embeddings by version of the backbone. Both are scored on today's taxonomy: where it has changed
    since the champion was trained, labels that the champion does not know count against it, as they would in serving. A
    champion that cannot be read is replaced.
    """
    champion_version = registry.champion(name)
    if champion_version is None:
        return ChampionComparison(None, decide_promotion(metrics_of(challenger), None))
    try:
        version = registry.get(name, champion_version)
        products = _learned(trained_on(version), test)
        known = sum(example.product in products for example in test)
        unseen = [n for n, example in enumerate(test) if example.product not in products]
        if drawn_again or (known and not any(test[n].labels for n in unseen)):
            decision = decide_without_comparison(champion_version, known, len(test), drawn_again=drawn_again)
            return ChampionComparison(None, decision, champion_version)
        champion = evaluate_champion(version, trees, [test[n] for n in unseen], stores)
    except (NotFoundError, DamagedError, ConfigError, KeyError, ValueError) as error:
        return ChampionComparison(
            None, Decision(True, f"The champion {champion_version} cannot be used: {error}"), champion_version
        )
    metrics = metrics_of(champion) if champion is not None else None
    if known and metrics is not None:
        decision = decide_promotion(metrics_of(evaluate_some(unseen)), metrics, champion_version=champion_version)
        note = f"without {known} of products that {champion_version} has learned from"
        return ChampionComparison(None, with_caveats(decision, [note]), champion_version, known)
    return ChampionComparison(
        champion, decide_promotion(metrics_of(challenger), metrics, champion_version=champion_version), champion_version
    )


def evaluate_champion(
    version: ModelVersion, trees: Sequence[Tree], test: Sequence[Example], stores: Mapping[str, Embeddings]
) -> dict[str, Evaluation] | None:
    """Return the evaluation of a published head on the test images, by control; None without their embeddings.

    What it predicts counts under the names that nodes and controls have now. Raises DamagedError, ConfigError or
    KeyError when the version's files are not those of a head.
    """
    head = load_head(version.path / HEAD_FILE)
    known = version.head_manifest.trees_by_control
    store = stores.get(version.head_manifest.backbone)
    if store is None:
        return None
    found, x = store.get([example.id for example in test])
    if not found.all():
        return None
    scores = head.log_probabilities(x, known, {}) if len(x) else {}
    labels = [example.labels for example in test]
    evaluations = {}
    for tree in trees:
        control = next((name for name in (tree.control, *tree.former) if name in scores), None)
        if control is not None:
            found_paths = most_likely_paths(known[control], scores[control])
            predictions = [tree.current(path) for path in found_paths]
            if evaluation := evaluate_predictions(tree, labels, predictions):
                evaluations[tree.control] = evaluation
    return evaluations


def _learned(learned: TrainedOn, test: Sequence[Example]) -> set[str]:
    """Return the products of the test images that are among what was learned."""
    return {example.product for example in test if learned.knows(example.id, example.file_hash, example.group)}
