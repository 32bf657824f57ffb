"""The nodes of a project's taxonomy with the number of labels of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from taxonomist.backend.services import Services
from taxonomist.backend.status.counts import nodes_of
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import TaxonomyPath


@dataclass(frozen=True)
class NodeLabels:
    """A node of the taxonomy, the number of images with an accepted label through it, and the nodes below it."""

    control: str
    path: TaxonomyPath
    labels: int
    below: tuple[NodeLabels, ...] = ()

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path[-1]


def nodes_with_labels(services: Services, project: str) -> Iterator[NodeLabels]:
    """Yield the nodes of level 1 of each control, in the order of the taxonomy; those that it has not come last."""
    counts = nodes_of(services, project)
    paths: dict[tuple[str, TaxonomyPath], None] = {}
    try:
        for tree in services.label_config(project).trees:
            paths |= dict.fromkeys((tree.control, path) for path in tree.paths)
    except ConfigError:
        pass
    paths |= dict.fromkeys(sorted(counts))
    below: dict[tuple[str, TaxonomyPath], list[TaxonomyPath]] = {}
    for control, path in paths:
        below.setdefault((control, path[:-1]), []).append(path)

    def node(control: str, path: TaxonomyPath) -> NodeLabels:
        children = below.get((control, path), ())
        return NodeLabels(
            control, path, counts.get((control, path), 0), tuple(node(control, child) for child in children)
        )

    for control, path in paths:
        if len(path) == 1:
            yield node(control, path)
