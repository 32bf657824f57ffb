"""Nodes whose images look most like those of a node that is gone: for a proposal, never more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from taxonomist.backend.services import BACKBONE, Services
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree_changes.class_means import Means, most_alike

_CHUNK = 2000  # embeddings that are read at a time
_Node = tuple[str, TaxonomyPath]


def alike(services: Services, project: str, config: LabelConfig, gone: Collection[_Node]) -> dict[_Node, TaxonomyPath]:
    """Return, for nodes that are gone, by control and path, the node of today whose labelled images look most alike.

    A node with fewer than three embedded images is left out, on both sides; so are all while there is no backbone.
    """
    backbone = services.registry.champion(BACKBONE)
    if backbone is None or not gone:
        return {}
    means = Means()
    store, known = services.embeddings(backbone), set(gone)
    labels: dict[str, list[tuple[bool, _Node]]] = defaultdict(list)
    for image, control, path in services.journal.unknown_paths.images(project):
        nodes = [(config.present(control), prefix) for prefix in prefixes(path)]
        labels[image] += [(True, node) for node in nodes if node in known]
    outside = set(labels)
    for document in services.catalog.documents(project, labelled=True):
        if document.id not in outside:  # else it has the label of what is left of its path
            for control, paths in document.projects[project].accepted.items():
                labels[document.id] += [(False, (control, tuple(path))) for path in paths]
    ids = list(labels)
    for start in range(0, len(ids), _CHUNK):
        some = ids[start : start + _CHUNK]
        found, vectors = store.get(some)
        rows: dict[tuple[bool, _Node], list[int]] = defaultdict(list)
        for row in found.nonzero()[0].tolist():
            for key in labels[some[row]]:
                rows[key].append(row)
        for key, numbers in rows.items():
            means.add(key, vectors[numbers])
    result: dict[_Node, TaxonomyPath] = {}
    for control in {control for control, _ in gone}:
        today, before = (
            means.directions(
                (is_gone, node) for is_gone, node in means.counts if is_gone == wanted and node[0] == control
            )
            for wanted in (False, True)
        )
        by_path = {path: direction for (_, (_, path)), direction in today.items()}
        result |= {node: path for (_, node), path in most_alike(before, by_path).items()}
    return result
