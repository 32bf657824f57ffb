"""Classifier heads: data, training, calibration, evaluation and promotion."""
