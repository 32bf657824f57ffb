"""The jobs that *Start training* in Label Studio asks for."""

from __future__ import annotations

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import Job, JobKind


def enqueue_training(services: Services, project: str) -> Job:
    """*Start training* was pressed: the job that does it. It brings no annotations, so those are fetched before."""
    if project.isdecimal() and all(services.label_studio(project)):
        services.jobs.enqueue(JobKind.SYNC, project, "Start training was pressed")
    return services.jobs.enqueue(JobKind.TRAIN, project, "Start training was pressed")
