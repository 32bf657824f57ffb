"""Images of one product or service report: how far down the tree they agree, and how their predictions are fused."""

from taxonomist.taxonomy.groups.fusion import effective_images, grafted
from taxonomist.taxonomy.groups.purity import PURE, LevelPurity, pure_depth, purity_by_level

__all__ = ["PURE", "LevelPurity", "effective_images", "grafted", "pure_depth", "purity_by_level"]
