"""What became of the nodes of a taxonomy that changed: matched to the new one, with what is certain and what is not."""

from taxonomist.taxonomy.tree_changes.matching import NodeMatch, Reason, match_configs, match_trees

__all__ = ["NodeMatch", "Reason", "match_configs", "match_trees"]
