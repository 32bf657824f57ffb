"""A person promotes a version or rolls back, and Label Studio gets the new version's name."""

from __future__ import annotations

from taxonomist.backend.retraining.announce_promotion import after_change
from taxonomist.backend.services import Services, registry_name


def promote(services: Services, project: str, version: str) -> None:
    """Serve a version from now on, without a comparison, and announce it. Raises `NotFoundError` or `DamagedError`."""
    before = services.registry.champions()
    services.registry.promote(registry_name(project), version)
    after_change(services, before)


def roll_back(services: Services, project: str) -> str | None:
    """Serve what was served before, with its backbone if both were promoted together, and announce it.

    Return the version, None where look-alikes alone vote again. Raises `NotFoundError` or `DamagedError`.
    """
    before = services.registry.champions()
    services.registry.rollback(registry_name(project))
    after_change(services, before)
    return services.registry.champion(registry_name(project))
