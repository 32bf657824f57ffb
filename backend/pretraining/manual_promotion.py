"""Promotion of a backbone by a person, without a comparison, together with the heads that were trained on it."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.labelling.taxonomy_changes.labels_outside import training_hold
from taxonomist.backend.retraining.announce_promotion import after_change
from taxonomist.backend.services import BACKBONE, Services, registry_name
from taxonomist.backend.state.jobs import JobKind


@dataclass(frozen=True)
class PromotionResult:
    """The promoted head of each project, and the projects that keep a head on another backbone.

    `waiting` has the head that a person has to promote, by project.
    """

    heads: dict[str, str]
    kept: tuple[str, ...]
    waiting: dict[str, str]


def waits_for_a_person(project: str, head: str) -> str:
    """Return a sentence on a new head of a project whose versions a person promotes."""
    return (
        f"A person promotes the versions of project {project}, so it keeps what it serves; "
        f"taxonomist models promote {head} --project {project} serves the new one."
    )


def promote_backbone(services: Services, version: str) -> PromotionResult:
    """Serve this backbone, and for each project the newest head that was trained on it, in one step.

    A project without such a head, whose versions a person promotes, or whose training waits for a person's decision on
    its labels, keeps its head and that head's backbone. The embedding of the images is enqueued for the worker. Raises
    `NotFoundError` or `DamagedError`.
    """
    registry = services.registry
    before = registry.champions()
    heads: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for record in services.projects:
        versions = registry.versions(registry_name(record.project))
        trained_on_it = [head.version for head in versions if head.head_manifest.backbone == version]
        if trained_on_it and not training_hold(services, record.project):
            by_hand = services.project_settings(record.project).promotion == "manual"
            (waiting if by_hand else heads)[record.project] = trained_on_it[-1]
    registry.promote_together({BACKBONE: version, **{registry_name(project): head for project, head in heads.items()}})
    after_change(services, before)
    for record in services.projects:
        services.jobs.enqueue(JobKind.EMBED, record.project, f"backbone {version} was promoted")
    kept = [record.project for record in services.projects if record.project not in heads | waiting]
    served = tuple(project for project in kept if registry.champion(registry_name(project)))
    return PromotionResult(heads, served, waiting)
