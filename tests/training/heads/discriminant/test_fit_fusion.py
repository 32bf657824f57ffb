"""How several images of a product are predicted together: fitted without the product, and used where it is a gain."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.inference.heads.discriminant_weights import node_probabilities
from taxonomist.inference.heads.fusion import Fusion
from taxonomist.taxonomy.calibration import Calibration, fit_promise
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.training.heads.discriminant.fit_discriminant import DiscriminantOptions, ProductFeatures, learning_of
from taxonomist.training.heads.discriminant.fit_fusion import FittedFusion, calibrate_fusion, fit_fusion
from tests.training.heads.discriminant.test_fit_discriminant import CHAIRS, LAMPS, SOFAS, TREE, in_products, stops

PATHS = [SOFAS, CHAIRS, LAMPS] * 8


def test_it_is_fitted_on_predictions_by_models_that_never_saw_the_product() -> None:
    x, products = in_products(PATHS, 3, spread=1.0, view=0.5)
    shared = ProductFeatures.of(x, products, 2)
    labels = stops([[path] for path in PATHS for _ in range(3)])
    others = labels.copy()
    others[:3] = stops([[LAMPS]] * 3)

    def evidence(labels: FloatArray) -> float:
        """Return the difference of two log-likelihoods of product 0: temperature and prior are fitted on all labels."""
        learning = learning_of(x, labels, products, TREE, DiscriminantOptions(folds=len(PATHS)), [shared])
        fitted = fit_fusion(learning, products)
        assert fitted is not None
        sofas, chairs = (fitted.held_out[0, TREE.index[path]] for path in (SOFAS, CHAIRS))
        prior, classes = fitted.fusion.prior, learning.whole.judged.data.nodes[learning.model().classes].tolist()
        counts = dict(zip(classes, prior.tolist(), strict=True))
        own = counts[TREE.index[CHAIRS]] - counts[TREE.index[SOFAS]]
        temperature = learning.temperature / fitted.fusion.scale
        return float(temperature * (np.log(chairs / sofas) - own))

    assert evidence(others) == pytest.approx(evidence(labels), rel=0.15)


def test_what_is_predicted_for_a_product_is_worked_out_by_hand() -> None:
    x, products = in_products(PATHS, 3, spread=1.0, view=0.5)
    shared = ProductFeatures.of(x, products, 2)
    labels = stops([[path] for path in PATHS for _ in range(3)])
    learning = learning_of(x, labels, products, TREE, DiscriminantOptions(folds=len(PATHS)), [shared])
    fitted = fit_fusion(learning, products)
    assert fitted is not None
    assert fitted.rows.tolist() == list(range(len(x)))
    temperature = learning.temperature / fitted.fusion.scale
    weight = float((fitted.fusion.prior / learning.model().log_prior).mean())
    without = []
    for start in range(0, len(x), 3):  # a model without the three images of a product, and the features of these
        rest = np.r_[:start, start + 3 : len(x)]
        others = ProductFeatures(shared.means[rest], shared.sizes[rest], 2)
        names = [products[row] for row in rest]
        model = learning_of(x[rest], labels[rest], names, TREE, DiscriminantOptions(folds=2), [others]).model()
        without.append((model, model.likelihoods(shared.means[start : start + 3])))

    def by_hand(temperature: float, weight: float) -> FloatArray:
        nodes, parents = learning.whole.judged.data.nodes, np.asarray(TREE.parents, np.int64)
        scores = [1.5 * found / temperature + weight * model.log_prior for model, found in without]  # 3 / (1 + 2 / 2)
        return np.concatenate(
            [
                node_probabilities(score.astype(np.float32), nodes[model.classes], parents)
                for score, (model, _) in zip(scores, without, strict=True)
            ]
        )

    def loss(values: FloatArray) -> float:
        return -float(np.log((values * labels).sum(axis=1)).mean())

    np.testing.assert_allclose(fitted.held_out, by_hand(temperature, weight), rtol=1e-3, atol=1e-5)
    for factor in (0.5, 2.0):
        assert loss(fitted.held_out) < loss(by_hand(factor * temperature, weight))


def test_below_the_level_that_a_product_shares_each_image_is_predicted_alone() -> None:
    x, products = in_products(PATHS, 3, spread=1.0, view=0.5)
    shared = ProductFeatures.of(x, products, 1)
    labels = stops([[path] for path in PATHS for _ in range(3)])
    learning = learning_of(x, labels, products, TREE, DiscriminantOptions(), [shared])
    fitted = fit_fusion(learning, products)
    assert fitted is not None
    alone, together = learning.probabilities(learning.held_out), fitted.held_out
    seats, sofas = TREE.index[SOFAS[:1]], TREE.index[SOFAS]
    np.testing.assert_allclose(together[:, sofas] / together[:, seats], alone[:, sofas] / alone[:, seats], rtol=1e-4)
    assert np.abs(together[:, seats] - alone[:, seats]).max() > 0.1
    np.testing.assert_array_equal(together[0::3, seats], together[1::3, seats])


def test_products_that_are_alone_or_mixed_have_no_fusion() -> None:
    x, products = in_products(PATHS, 3, spread=1.0, view=0.5)
    labels = stops([[path] for path in PATHS for _ in range(3)])
    names = [str(number) for number in range(len(x))]
    for shared in ([], [ProductFeatures.of(x, products, 0)], [ProductFeatures.of(x, names, 2)]):
        assert fit_fusion(learning_of(x, labels, products, TREE, shared=shared), products) is None


def calibrated(right: FloatArray, *, gain: bool = True, drawn: int | None = None) -> Calibration | None:
    """Return the calibration of fused predictions (n, nodes) of sofas that are suggested alone, too."""
    own = np.zeros((len(right), len(TREE)), np.float32)
    own[:, [TREE.index[SOFAS[:1]], TREE.index[SOFAS]]] = 0.9
    fitted = FittedFusion(
        Fusion(1.0, np.zeros(1, np.float32), np.zeros(1, np.float32), 2), np.arange(len(right)), right, gain
    )
    truths, products = [(SOFAS,)] * len(right), list(range(len(right)))
    alone = fit_promise(TREE, own, truths, products, target_precision=0.8)
    assert alone.suggests_paths
    return calibrate_fusion(fitted, TREE, own, truths, products, range(drawn or len(right)), alone, 0.8)


def test_it_is_used_where_it_is_a_gain_and_suggests_as_much() -> None:
    together = np.zeros((40, len(TREE)), np.float32)
    together[:, [TREE.index[SOFAS[:1]], TREE.index[SOFAS]]] = 0.97
    assert calibrated(together) is not None
    assert calibrated(together, gain=False) is None
    assert calibrated(np.where(np.arange(40)[:, None] < 20, together, 0.1 * together)) is None


def test_only_images_that_were_drawn_at_random_calibrate() -> None:
    together = np.zeros((60, len(TREE)), np.float32)
    together[:40, [TREE.index[SOFAS[:1]], TREE.index[SOFAS]]] = 0.97
    together[40:, TREE.index[LAMPS]] = 0.97
    assert calibrated(together) is None
    found = calibrated(together, drawn=40)
    assert found is not None
    assert (found.labels, found.target_precision) == (40, 0.8)
