"""The composition root: it makes the implementation of each protocol from the settings, once per process."""

from taxonomist.backend.services.services import BACKBONE, Services, registry_name

__all__ = ["BACKBONE", "Services", "registry_name"]
