"""Classifier heads: data, training, calibration, evaluation and promotion.

`train_project` is one training from labels to a promoted version. `data/` has what a head learns from, `head` and
`loss` train it, `evaluation` measures it, `promotion/` compares it with the champion, and `report/` writes it down.
"""
