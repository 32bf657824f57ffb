"""How well each node is predicted, the one that costs most first."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, check_node
from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class NodeRow:
    """The test images of a node: `images` have it as a label, it is predicted for `predicted`, for `right` rightly.

    Only images whose label reaches the node's level count.
    """

    node: TaxonomyPath
    images: int
    predicted: int
    right: int

    @property
    def mistakes(self) -> int:
        """The images that are missed, and those for which it is predicted wrongly."""
        return self.images + self.predicted - 2 * self.right

    @property
    def precision(self) -> float | None:
        """The share of its predictions that is right, None without any."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """The share of its images that is found, None without any."""
        return self.right / self.images if self.images else None

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 to 1."""
        return 2 * self.right / (self.images + self.predicted)


def node_rows(outcomes: ControlOutcomes, below: TaxonomyPath = ()) -> list[NodeRow]:
    """Return the rows of the nodes below one that are label or prediction of an image, the most mistakes first.

    Raises `NotFoundError` for an unknown node.
    """
    check_node(outcomes, below)
    rows = []
    for counts in outcomes.counts.values():
        for node in counts.hits.keys() | counts.missed.keys() | counts.wrong.keys():
            if node[: len(below)] == below and node != below:
                right = counts.hits[node]
                rows.append(NodeRow(node, right + counts.missed[node], right + counts.wrong[node], right))
    return sorted(rows, key=lambda row: (-row.mistakes, row.f1, row.node))
