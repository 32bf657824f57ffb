"""Takes back a version whose suggestions prove worse than those of the version before it."""

from __future__ import annotations

import logging

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.comparison import RISK, evidence_for_former
from taxonomist.taxonomy.errors import DamagedError, NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath

log = logging.getLogger(__name__)


def roll_back_if_worse(services: Services, project: str) -> str | None:
    """Take the served version back where accepted labels say with confidence that the one before it is better.

    Compared are their suggestions for the same task, made before a person annotated it. The error is `RISK`. It is
    done only for a version that was promoted by its comparison, over an older one on the same backbone, and not where a
    person promotes. Return what was done in one line, None when nothing was. Call it with the training lock. Raises
    `ConfigError` when the project's labelling config has no taxonomy.
    """
    if services.project_settings(project).promotion == "manual":
        return None
    registry, name = services.registry, registry_name(project)
    champion, previous = registry.champion(name), registry.previous(name)
    if champion is None or previous is None:
        return None
    try:
        served, former = registry.get(name, champion), registry.get(name, previous)
        if not _follows(services, served, former):
            return None
        better, worse = _products(services, project, served, former)
        if evidence_for_former(better, worse) < 1 / RISK:
            return None
        registry.rollback(name)
    except (DamagedError, NotFoundError) as error:
        log.warning("project %s: %s cannot be compared with %s: %s", project, champion, previous, error)
        return None
    again, instead = model_version_name(previous), model_version_name(champion)
    done = (
        f"{again} is served again in place of {instead}: its suggestion was the better one for {better} of the "
        f"{better + worse} products where accepted labels tell them apart."
    )
    log.warning("project %s: %s", project, done)
    return done


def _follows(services: Services, served: ModelVersion, former: ModelVersion) -> bool:
    """Return whether the served version was promoted by its comparison, after the other one and on its backbone."""
    order = [version.version for version in services.registry.versions(served.name)]
    promotion = served.head_manifest.promotion
    return (
        promotion is not None
        and promotion.promoted
        and served.head_manifest.backbone == former.head_manifest.backbone
        and order.index(former.version) < order.index(served.version)
    )


def _products(services: Services, project: str, served: ModelVersion, former: ModelVersion) -> tuple[int, int]:
    """Return for how many products the former version's suggestion was the better one, and for how many the served's.

    Of each product the first task counts where one of them was better. Nodes and controls have their names of now.
    """
    pairs = services.suggestions.answered_by_both(
        project, model_version_name(served.version), model_version_name(former.version)
    )
    if not pairs:
        return 0, 0
    documents = services.catalog.get_many({pair.image_id for pair in pairs})
    trees = {name: tree for tree in services.label_config(project).trees for name in (*tree.former, tree.control)}
    is_better: dict[str, bool] = {}
    for pair in pairs:
        document, tree = documents.get(pair.image_id), trees.get(pair.control)
        if document is None or tree is None or project not in document.projects or pair.product in is_better:
            continue
        labels = document.projects[project].paths(tree.control)
        served_levels, former_levels = (
            _right_levels(tree.current(path), labels) for path in (pair.path, pair.former_path)
        )
        if served_levels != former_levels:
            is_better[pair.product] = former_levels > served_levels
    better = sum(is_better.values())
    return better, len(is_better) - better


def _right_levels(path: TaxonomyPath, labels: tuple[TaxonomyPath, ...]) -> int:
    """Return how many levels a suggestion saves: its own where a label goes through it, 0 where it is wrong."""
    return len(path) if any(label[: len(path)] == path for label in labels) else 0
