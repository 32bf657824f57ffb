"""What each kind of job does. The worker runs jobs from the job table, the command line runs them at once."""

from __future__ import annotations

from contextlib import nullcontext

from taxonomist.backend.connection.announce import announce_again
from taxonomist.backend.connection.fill_predictions import fill
from taxonomist.backend.connection.panel_renewal import renew_panel
from taxonomist.backend.connection.push_predictions import push
from taxonomist.backend.extras import require_for_head
from taxonomist.backend.labelling.bulk import go_on
from taxonomist.backend.labelling.sync import sync
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.retraining.first_backbone import prepare_backbone
from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.state.project_use import working_on
from taxonomist.progress import StepProgress
from taxonomist.taxonomy.errors import ConfigError


def run(services: Services, kind: JobKind, project: str, progress: StepProgress, *, force: bool = False) -> str:
    """Run a job of that kind in this process; return its outcome in one line.

    `force` trains also when nothing is new. Raises `TaxonomistError` when it failed, `ConflictError` while the project
    is being forgotten.
    """
    with working_on(services.home, project, waits=True) if project else nullcontext():
        return _run(services, kind, project, progress, force=force)


def _run(services: Services, kind: JobKind, project: str, progress: StepProgress, *, force: bool) -> str:
    match kind:
        case JobKind.TRAIN:
            require_for_head(services.settings.head)
            from taxonomist.backend.retraining.training_job import train  # noqa: PLC0415 - may bring torch

            return train(services, project, progress, force=force)
        case JobKind.EMBED:
            return embed_all(services, project, progress)
        case JobKind.SYNC:
            outcome = sync(services, project, progress)
            announce_again(services, project)
            return outcome
        case JobKind.PUSH:
            return push(services, project, progress)
        case JobKind.FILL:
            return fill(services, project, progress)
        case JobKind.RENEW:
            return renew_panel(services, project)
        case JobKind.BULK:
            return go_on(services, project, progress)
        case JobKind.BACKBONE:
            version = prepare_backbone(services)
            for record in services.projects:
                services.jobs.enqueue(JobKind.EMBED, record.project, f"backbone {version.version} is new")
            return f"new images are embedded by backbone {version.version}"
        case JobKind.PRETRAIN | JobKind.ADOPT:
            raise ConfigError(
                "A pre-training has a process of its own, and so has an adoption.",
                hint="Run `taxonomist pretrain` or `taxonomist backbone adopt`.",
            )
