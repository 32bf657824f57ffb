"""Images of one product or service report: how far down the tree they agree."""

from taxonomist.taxonomy.groups.purity import PURE, LevelPurity, pure_depth, purity_by_level

__all__ = ["PURE", "LevelPurity", "pure_depth", "purity_by_level"]
