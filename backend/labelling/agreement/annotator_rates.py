"""How often the annotators of a project are right, for `agreement=dawid_skene`.

They are learned from the whole journal with each training and each pass over Label Studio, and kept in the project's
record. Between that, an annotation decides its own image with the kept rates. So a label follows from the annotations
of its image and the kept rates, and these from the journal as it was when they were learned, whatever they were before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from taxonomist.backend.labelling.image_decision import annotations_by_control
from taxonomist.backend.services import Services
from taxonomist.taxonomy.agreement import AgreementPolicy, AnnotatorRates, ImageAnswers, Weights, answers_of, fit
from taxonomist.taxonomy.label_config import LabelConfig

CHUNK = 500  # images between two steps of progress


def keep_rates(services: Services, project: str, on_step: Callable[[], None] = lambda: None) -> None:
    """Learn the rates of a project's annotators and keep them in its record; remove them where none weighs annotators.

    `on_step` is called while there is progress. Raises `ConfigError` when the labelling config has no taxonomy.
    """
    rates: Mapping[str, AnnotatorRates] = {}
    if _is_weighed(services, project):
        config = services.label_config(project)
        rates = learn_rates(services, project, config, services.agreement(project), on_step)
    if rates != services.projects.get(project).annotator_rates:
        services.projects.update(project, annotator_rates=rates)


def learn_rates(
    services: Services,
    project: str,
    config: LabelConfig,
    policy: AgreementPolicy,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, AnnotatorRates]:
    """Return the rates of the annotators by control, learned from all annotations of the project in the journal.

    The images are sorted, so that the order in which annotations came changes nothing.
    """
    answers: dict[str, list[ImageAnswers]] = {tree.control: [] for tree in config.trees}
    for number, image in enumerate(sorted(services.journal.withdrawal.images(project))):
        if number % CHUNK == 0:
            on_step()
        records = list(services.journal.annotations(project, image))
        for control, of_control in annotations_by_control(records, config).items():
            if (found := answers_of(of_control, control, policy)) is not None:
                answers[control].append(found)
    rates = {}
    for tree in config.trees:
        rates[tree.control] = replace(fit(answers[tree.control], tree), tree=tree.fingerprint)
        on_step()
    return rates


def weights_of(
    config: LabelConfig, rates: Mapping[str, AnnotatorRates], *, is_weighed: bool = True
) -> dict[str, Weights]:
    """Return the weights by control; none where annotators are counted.

    Rates that were learned on another tree are left out: all annotators then weigh the same.
    """
    if not is_weighed:
        return {}
    found = {}
    for tree in config.trees:
        kept = rates.get(tree.control)
        found[tree.control] = Weights(tree, kept if kept and kept.tree == tree.fingerprint else fit([], tree))
    return found


def project_weights(services: Services, project: str, config: LabelConfig) -> dict[str, Weights]:
    """Return the weights that are in force for a project; none where annotators are counted."""
    rates = services.projects.get(project).annotator_rates
    return weights_of(config, rates, is_weighed=_is_weighed(services, project))


def lacks_rates(services: Services, project: str) -> bool:
    """Return whether the annotators of the project are weighed, and their rates are not of its present taxonomy."""
    if not _is_weighed(services, project):
        return False
    trees = {tree.control: tree.fingerprint for tree in services.label_config(project).trees}
    return trees != {control: rates.tree for control, rates in services.projects.get(project).annotator_rates.items()}


def _is_weighed(services: Services, project: str) -> bool:
    return services.project_settings(project).agreement == "dawid_skene"
