"""A training in this process, at once, with its result."""

from __future__ import annotations

from taxonomist.backend.retraining.training_result import TrainingResult, newest_version, training_result
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.worker.job_runner import run
from taxonomist.progress import StepProgress


def train_now(services: Services, project: str, progress: StepProgress, *, force: bool = False) -> TrainingResult:
    """Train a model of the project on its accepted labels, and return what came of it.

    `force` trains also when nothing is new. Raises `TrainingError` when there are too few labels.
    """
    newest, champion = newest_version(services, project), services.registry.champion(registry_name(project))
    outcome = run(services, JobKind.TRAIN, project, progress, force=force)
    return training_result(services, project, outcome, newest_before=newest, champion_before=champion)
