"""How deep in the tree a model can be trusted, learned on held-out images.

`temperature_scaling` fits the temperature, `thresholds` the lowest probability per level with which a node is
suggested, and `wilson_bound` is the lower bound of a precision that the thresholds use. `promise` fits one threshold
for the whole tree, with `precision_test` and the exact bound of `clopper_pearson`, and `shortlist` finds lists of a few
paths for the images for which no path passes.
"""

from taxonomist.taxonomy.calibration.precision_test import Promise, promise_for
from taxonomist.taxonomy.calibration.promise import fit_promise
from taxonomist.taxonomy.calibration.shortlist import Shortlist, fit_shortlists, shortlists
from taxonomist.taxonomy.calibration.temperature_scaling import fit_temperature
from taxonomist.taxonomy.calibration.thresholds import Calibration, fit_calibration
from taxonomist.taxonomy.calibration.wilson_bound import wilson_lower_bound

__all__ = [
    "Calibration",
    "Promise",
    "Shortlist",
    "fit_calibration",
    "fit_promise",
    "fit_shortlists",
    "fit_temperature",
    "promise_for",
    "shortlists",
    "wilson_lower_bound",
]
