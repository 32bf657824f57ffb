"""Whether one model is better than another on the same images."""

from taxonomist.taxonomy.comparison.paired import PairedComparison, PathScores, compare_paired, path_scores

__all__ = ["PairedComparison", "PathScores", "compare_paired", "path_scores"]
