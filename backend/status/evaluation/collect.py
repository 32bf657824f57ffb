"""The versions of a project that can be evaluated, and the one that is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status.evaluation.outcomes import ControlOutcomes, VersionOutcomes, version_outcomes
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.errors import DamagedError, NotFoundError
from taxonomist.training.heads.report.outcomes import OUTCOMES_FILE


@dataclass(frozen=True)
class EvaluableVersion:
    """A version. It keeps the outcomes of its test images for the `controls`; a version of an earlier release keeps
    none."""

    version: str
    served: bool
    controls: tuple[str, ...]


@dataclass(frozen=True)
class Evaluated:
    """The versions of a project, the newest first, and the chosen one with its control, None where there is none.

    `outcomes` is None where the chosen version has no test images with a label for the control. `problem` says why the
    version cannot be read.
    """

    versions: tuple[EvaluableVersion, ...]
    version: VersionOutcomes | None
    controls: tuple[str, ...]
    outcomes: ControlOutcomes | None
    problem: str | None = None


def collect_evaluation(
    services: Services, project: str, version: str | None = None, control: str | None = None
) -> Evaluated:
    """Return the outcomes of a version, of the served one or else the newest without a name, for its first control or
    another one. Raises `NotFoundError` for an unknown version or control."""
    name = registry_name(project)
    champion = services.registry.champion(name)
    versions = tuple(
        EvaluableVersion(found.version, found.version == champion, _controls(found))
        for found in reversed(services.registry.versions(name))
    )
    if version is not None and version not in {found.version for found in versions}:
        raise NotFoundError(f"Project {project} has no version {version!r}.")
    if not versions:
        return Evaluated((), None, (), None)
    wanted = version or champion or versions[0].version
    try:
        chosen = version_outcomes(services, project, wanted)
    except DamagedError as error:
        return Evaluated(versions, VersionOutcomes(wanted, None, None), (), None, str(error))
    controls = tuple(chosen.controls or ())
    if control is not None and control not in controls:
        raise NotFoundError(f"Version {chosen.version} of project {project} has no control {control!r}.")
    outcomes = (chosen.controls or {}).get(control or next(iter(controls), ""))
    return Evaluated(versions, chosen, controls, outcomes if outcomes and outcomes.images else None)


def _controls(version: ModelVersion) -> tuple[str, ...]:
    try:
        return tuple(version.head_manifest.trees_by_control) if OUTCOMES_FILE in version.files else ()
    except DamagedError:
        return ()
