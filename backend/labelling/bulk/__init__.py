"""One label for many tasks in one action, written to Label Studio in the name of a person."""

from taxonomist.backend.labelling.bulk.proposal import MOST_IMAGES, LabelProblem, label_problem, propose
from taxonomist.backend.labelling.bulk.writing import go_on, start, undo

__all__ = ["MOST_IMAGES", "LabelProblem", "go_on", "label_problem", "propose", "start", "undo"]
