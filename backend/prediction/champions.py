"""The models that are served: the champion of each project, with the thresholds that still hold."""

from __future__ import annotations

import logging
import threading
import time
from typing import NamedTuple

from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.services import Services, registry_name
from taxonomist.inference.serving_model import ServingModel, load_serving_model
from taxonomist.taxonomy.errors import DamagedError, StorageError, TaxonomistError

log = logging.getLogger(__name__)

RETRY_S = 30.0  # after which a model that the store could not deliver is loaded again


class _LoadedModel(NamedTuple):
    """The result of the last loading, the stamp of the aliases it belongs to, and the time of the next try."""

    stamp: object
    model: ServingModel | None
    retry_at: float = float("inf")


class Champions:
    """The loaded champions. It watches the registry: the first call after a promotion returns the new version."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._models: dict[str, _LoadedModel] = {}
        self._floors: dict[str, tuple[str, dict[str, float]]] = {}  # by project, with their version: those read last

    def get(self, project: str) -> ServingModel | None:
        """Return the champion of a project, None while there is none.

        Where its promise is broken, its thresholds have risen. A champion that cannot be loaded is logged, and the
        model that was served before stays in use. If the store was not reachable, the champion is loaded again after
        `RETRY_S` seconds.
        """
        name = registry_name(project)
        stamp = self._services.registry.alias_stamp(name)
        loaded = self._models.get(project)
        if loaded and loaded.stamp == stamp and (time.monotonic() < loaded.retry_at or self._lock.locked()):
            return self._with_floors(project, loaded.model)
        with self._lock:
            loaded = self._models.get(project)
            if loaded is None or loaded.stamp != stamp or time.monotonic() >= loaded.retry_at:
                try:
                    loaded = _LoadedModel(stamp, self._load(name))
                except TaxonomistError as error:
                    log.error(
                        "the champion of project %s cannot be loaded, the former model stays in use: %s", project, error
                    )
                    unreachable = isinstance(error, StorageError) and not isinstance(error, DamagedError)
                    retry_at = time.monotonic() + RETRY_S if unreachable else float("inf")
                    loaded = _LoadedModel(stamp, loaded.model if loaded else None, retry_at)
                self._models[project] = loaded
        return self._with_floors(project, loaded.model)

    def _with_floors(self, project: str, model: ServingModel | None) -> ServingModel | None:
        """Return the model with the thresholds that still hold; the last known ones when they cannot be read."""
        if model is None:
            return None
        version = model_version_name(model.version)
        try:
            self._floors[project] = version, self._services.suggestions.floors(project, version)
        except StorageError as error:
            log.error("project %s: the thresholds of %s cannot be read: %s", project, version, error)
        known, floors = self._floors.get(project, (version, {}))
        return model.with_floors(floors) if floors and known == version else model

    def _load(self, name: str) -> ServingModel | None:
        registry = self._services.registry
        version = registry.champion(name)
        if version is None:
            return None
        model_version = registry.get(name, version)
        registry.verify(model_version)
        return load_serving_model(model_version)
