"""How far down the tree a model can be trusted: a temperature and thresholds per level, fitted on held-out images."""

from taxonomist.taxonomy.calibration.temperature_scaling import fit_temperature
from taxonomist.taxonomy.calibration.thresholds import Calibration, fit_calibration
from taxonomist.taxonomy.calibration.wilson_bound import wilson_lower_bound

__all__ = ["Calibration", "fit_calibration", "fit_temperature", "wilson_lower_bound"]
