"""The versions of a project that can be evaluated, and the one that is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, VersionOutcomes, version_outcomes
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.training.heads.report.outcomes import OUTCOMES_FILE


@dataclass(frozen=True)
class EvaluableVersion:
    """A version. `has_outcomes`: it keeps those of its test images, which versions of earlier releases do not."""

    version: str
    served: bool
    has_outcomes: bool


@dataclass(frozen=True)
class Evaluated:
    """The versions of a project, the newest first, and the chosen one with its control, None where there is none.

    `outcomes` is None where the chosen version has no test images with a label for the control.
    """

    versions: tuple[EvaluableVersion, ...]
    version: VersionOutcomes | None
    controls: tuple[str, ...]
    outcomes: ControlOutcomes | None


def collect_evaluation(
    services: Services, project: str, version: str | None = None, control: str | None = None
) -> Evaluated:
    """Return the outcomes of a version, of the served one or else the newest without a name, for its first control or
    another one. Raises `NotFoundError` for an unknown version or control, and `DamagedError`."""
    name = registry_name(project)
    champion = services.registry.champion(name)
    versions = tuple(
        EvaluableVersion(found.version, found.version == champion, OUTCOMES_FILE in found.files)
        for found in reversed(services.registry.versions(name))
    )
    if version is not None and version not in {found.version for found in versions}:
        raise NotFoundError(f"Project {project} has no version {version}.")
    if not versions:
        return Evaluated((), None, (), None)
    chosen = version_outcomes(services, project, version or champion or versions[0].version)
    controls = tuple(chosen.controls or ())
    if control is not None and control not in controls:
        raise NotFoundError(f"Version {chosen.version} of project {project} has no control {control}.")
    outcomes = (chosen.controls or {}).get(control or next(iter(controls), ""))
    return Evaluated(versions, chosen, controls, outcomes if outcomes and outcomes.images else None)
