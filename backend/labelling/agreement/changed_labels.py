"""What another way of agreement would change."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.labelling.agreement.annotator_rates import learn_rates, weights_of
from taxonomist.backend.labelling.image_decision import decide_image
from taxonomist.backend.services import Services
from taxonomist.backend.state.project_settings import ProjectSettings


@dataclass(frozen=True)
class LabelChanges:
    """Of `images`, `changed` get another label: another path, one that had none, or none any more."""

    images: int
    changed: int


def label_changes(services: Services, project: str, settings: ProjectSettings) -> LabelChanges:
    """Return how many images of the project would have another label than now with these settings; nothing is written.

    Raises `ConfigError` when the labelling config has no taxonomy.
    """
    config = services.label_config(project)
    policy = settings.policy(services.settings.agreement_policy)
    services.journal.fold()
    is_weighed = settings.agreement == "dawid_skene"
    rates = learn_rates(services, project, config, policy) if is_weighed else {}
    weights = weights_of(config, rates, is_weighed=is_weighed)
    known = services.journal.withdrawal.images(project)
    images = changed = 0
    for document in services.catalog.documents(project):
        if document.id in known:
            records = list(services.journal.annotations(project, document.id))
            images += 1
            decision = decide_image(records, config, policy, weights)
            changed += decision.accepted != document.projects[project].accepted
    return LabelChanges(images, changed)
