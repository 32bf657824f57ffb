"""Keeps the failure of one project from every other: it is logged once, set aside with its reason, and passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from taxonomist.storage.set_aside import ItemKind, SetAside, describe
from taxonomist.storage.sqlite import concerns_all
from taxonomist.taxonomy.errors import ConfigError, ConflictError, StorageError, TaxonomistError

log = logging.getLogger(__name__)
Item = TypeVar("Item")


class Isolation:
    """Runs the steps of a worker, each for one project or for none (`""`), so that no exception leaves its step.

    A step is named by what waits while it fails, in the plural: `labels`, `trainings`.

    What a person has to do for the project (a labelling config without a taxonomy, a project that is being forgotten)
    is logged only; everything else is set aside until the step works again.
    """

    def __init__(self, set_aside: Callable[[], SetAside]) -> None:
        self._set_aside = set_aside
        self._logged: dict[tuple[str, str], str] = {}  # the problem by project and step
        self._stored: dict[tuple[str, str], str | None] = {}  # in what is set aside; None: it works
        self._done: set[tuple[str, str]] = set()  # projects and steps since the last call of `end_round`
        self._done_once: set[tuple[str, str]] = set()
        self._done_before: set[tuple[str, str]] | None = None
        self.failures = 0  # of the store as a whole, such as a full disk, in steps for no project

    @contextmanager
    def of(self, project: str, step: str) -> Iterator[None]:
        """Do one step of a project in the block."""
        self._done.add((project, step))
        try:
            yield
        except Exception as error:
            self.failures += not project and concerns_all(error)
            self._say(project, step, error)
            if not isinstance(error, ConfigError | ConflictError):
                self._store(project, step, describe(error))
        else:
            if self._logged.pop((project, step), None) is not None:
                log.info("%s%s go on", _of(project), step)
            self._store(project, step, None)

    def end_beginning(self) -> None:
        """Note that the steps so far are done once, so that `end_round` does not miss them later."""
        self._done_once, self._done = self._done, set()

    def end_round(self) -> None:
        """Take back the steps of projects that are not done any more, such as of one that no Label Studio is known for:
        they would never leave. Call it when every step was done. Raises `StorageError`."""
        done, self._done = self._done | self._done_once, set()
        if done == self._done_before:
            return
        for item in self._set_aside().items(kind=ItemKind.STEP):
            if item.project and (item.project, item.key) not in done:
                self._set_aside().clear(ItemKind.STEP, item.project, [item.key])
                self._stored.pop((item.project, item.key), None)
                self._logged.pop((item.project, item.key), None)
        self._done_before = done

    def _say(self, project: str, step: str, error: Exception) -> None:
        """Log the problem once."""
        problem = describe(error)
        if self._logged.get((project, step)) == problem:
            return
        self._logged[project, step] = problem
        log.log(
            logging.WARNING if isinstance(error, ConfigError | ConflictError) else logging.ERROR,
            "%s%s wait: %s",
            _of(project),
            step,
            problem,
            exc_info=None if isinstance(error, TaxonomistError) else error,
        )

    def _store(self, project: str, step: str, problem: str | None) -> None:
        """Set the step aside with its problem, or take it back. On a full disk, the next pulse tries again."""
        if self._stored.get((project, step), "") == problem:
            return
        try:
            if problem is None:
                self._set_aside().clear(ItemKind.STEP, project, [step])
            else:
                self._set_aside().add(ItemKind.STEP, project, step, problem)
            self._stored[project, step] = problem
        except StorageError as failure:
            log.debug("it is not stored that %s wait: %s", step, failure)


def _of(project: str) -> str:
    return f"project {project}: " if project else ""


def work_alone(
    items: Sequence[Item], work: Callable[[Sequence[Item]], None], failed: Callable[[Item, Exception], None]
) -> None:
    """Work on all items together; where that fails, on halves of them, so that what fails costs its own item only.

    `failed` is called for each item that fails alone. What the caller tries again is raised: a `ConfigError`, a
    `ConflictError` (another writer was faster), and an error of the store as a whole.
    """
    if not items:
        return
    try:
        work(items)
    except Exception as error:
        if concerns_all(error) or isinstance(error, ConfigError | ConflictError):
            raise
        if len(items) == 1:
            failed(items[0], error)
            return
        half = len(items) // 2
        work_alone(items[:half], work, failed)
        work_alone(items[half:], work, failed)
