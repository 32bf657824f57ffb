"""Fits how the images of a product are predicted together, on predictions by models that saw none of its images."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.features import Array
from taxonomist.inference.heads.fusion import CORRELATION, Fusion, effective_images, grafted
from taxonomist.taxonomy.calibration import Calibration, fit_promise, fit_shortlists
from taxonomist.taxonomy.calibration.promise import candidates_of
from taxonomist.taxonomy.calibration.temperature_scaling import Truths
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.clear_gain import is_clear_gain, mean_by_product
from taxonomist.training.heads.discriminant.fit_discriminant import Learning, View
from taxonomist.training.heads.discriminant.held_out import Folded, fit_temperature, held_out_predictions

_FLOOR = 1e-4  # of the probability of a label


@dataclass(frozen=True)
class FittedFusion:
    """A fusion, the `rows` (m,) of the labelled images whose product has others, and `held_out` (m, nodes): what is
    predicted for them together with these, by models without the product. `gain` says that this is better."""

    fusion: Fusion
    rows: npt.NDArray[np.int64]
    held_out: Array
    gain: bool


def fit_fusion(learning: Learning, products: Sequence[Hashable]) -> FittedFusion | None:
    """Return the fusion of what a discriminant learns from; None where no product has several images, or none is pure.

    `products` (n,) are those of the labelled images.

    Its temperature and its weight of the prior are its own, fitted on the held-out predictions of whole products. There
    is a gain if the log-likelihood of the labels rises, on average over products, by more than chance would explain.
    """
    shared, judged = learning.whole.shared, learning.whole.judged.data
    if shared is None or shared.depth < 1 or not (rows := np.flatnonzero(shared.sizes > 1)).size:
        return None
    worth = effective_images(shared.sizes, CORRELATION)
    together = []
    for fold in held_out_predictions([_of_products(view) for view in learning.parts], learning.options):
        several = fold.some(np.flatnonzero(shared.sizes[fold.rows] > 1))
        weighted = (several.likelihoods * worth[several.rows, None]).astype(np.float32)
        together.append(replace(several, likelihoods=weighted))
    temperature, prior_weight = fit_temperature(judged, together, learning.options)
    fitted = replace(learning, temperature=temperature, prior_weight=prior_weight)
    own = learning.probabilities(learning.held_out)[rows]
    held_out = grafted(learning.tree, fitted.probabilities(together)[rows], own, shared.depth)
    model = learning.model()
    fusion = Fusion(
        learning.temperature / temperature,
        (model.bias / temperature).astype(np.float32),
        fitted.prior(model),
        shared.depth,
    )
    return FittedFusion(fusion, rows, held_out, _gains(learning, [products[row] for row in rows], rows, own, held_out))


def _of_products(view: View) -> tuple[Folded, Folded]:
    """Return what is learned, and the mean features of products in place of those of the images that are judged."""
    assert view.shared is not None
    return view.learned, Folded(replace(view.judged.data, x=view.shared.means), view.judged.folds)


def calibrate_fusion(
    fitted: FittedFusion,
    tree: Tree,
    own: FloatArray,
    truths: Truths,
    products: Sequence[Hashable],
    drawn: Collection[int],
    calibration: Calibration,
    confidence: float,
) -> Calibration | None:
    """Return the calibration of fused predictions, None where they are no gain.

    `own` (n, nodes) is what is predicted for the labelled images alone, which `calibration` belongs to; `drawn` are
    those that calibrate. Target and promise are the same. Fused predictions are calibrated on images of products with
    several, and have to suggest a path for at least as many of them as are suggested alone.
    """
    if not fitted.gain:
        return None
    wanted = set(drawn)
    places = [place for place, row in enumerate(fitted.rows.tolist()) if row in wanted]
    rows = fitted.rows[places].tolist()
    labels = [truths[row] for row in rows], [products[row] for row in rows]
    together = fitted.held_out[places]
    promised = fit_promise(
        tree,
        together,
        *labels,
        target_precision=calibration.target_precision,
        confidence=confidence,
        promise=calibration.promise,
    )
    found = fit_shortlists(tree, together, *labels, promised, confidence=confidence)
    with_path, without = (
        int(candidates_of(tree, probabilities, *labels).chosen(used.thresholds).any.sum())
        for probabilities, used in ((together, found), (own[rows], calibration))
    )
    return found if found.suggests_paths and with_path >= without else None


def _gains(
    learning: Learning,
    products: Sequence[Hashable],
    rows: npt.NDArray[np.int64],
    own: Array,
    held_out: Array,
) -> bool:
    """Return whether the labels are likelier in `held_out` (m, nodes) than in `own`, each product counting once."""
    stops = learning.whole.judged.data.labels[rows]
    nodes = learning.whole.judged.data.nodes
    likelier = np.log(np.maximum(held_out[:, nodes], _FLOOR)) - np.log(np.maximum(own[:, nodes], _FLOOR))
    gains = (likelier * stops).sum(axis=1) / stops.sum(axis=1)
    return is_clear_gain(mean_by_product(gains, products))
