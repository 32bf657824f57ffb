"""Promoting a backbone without the gate: by a person's word, with the heads that were trained on it."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.retraining.promotion import after_change
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.jobs import JobKind


@dataclass(frozen=True)
class Promoted:
    """The head of each project that is served now, and the projects that keep one of another backbone."""

    heads: dict[str, str]
    kept: tuple[str, ...]


def promote_backbone(services: Services, version: str) -> Promoted:
    """Serve this backbone, and for each project the newest head that was trained on it, all in one step.

    A project without such a head goes on with the one that it has, and with that one's backbone. Embeds nothing itself:
    the worker is asked to. Raises `NotFoundError` or `DamagedError`.
    """
    registry = services.registry
    before = registry.champions()
    heads = {}
    for record in services.projects:
        versions = registry.versions(registry_name(record.project))
        on_it = [head.version for head in versions if head.head_manifest.backbone == version]
        if on_it:
            heads[record.project] = on_it[-1]
    registry.promote_together({BACKBONE: version, **{registry_name(project): head for project, head in heads.items()}})
    after_change(services, before)
    for record in services.projects:
        services.jobs.enqueue(JobKind.EMBED, record.project, f"backbone {version} was promoted")
    kept = [each.project for each in services.projects if each.project not in heads]
    return Promoted(heads, tuple(project for project in kept if registry.champion(registry_name(project))))
