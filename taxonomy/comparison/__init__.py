"""Whether one model is better than another on the same images.

`paired` compares them on labels before a version is served, `corrections` on what annotators made of their suggestions.
"""

from taxonomist.taxonomy.comparison.corrections import RISK, evidence_for_former
from taxonomist.taxonomy.comparison.paired import PairedComparison, PathScores, compare_paired, path_scores

__all__ = ["RISK", "PairedComparison", "PathScores", "compare_paired", "evidence_for_former", "path_scores"]
