"""The aliases in a file: which version of each name is served. One file for all names, so that they change together."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.storage.registry import Moves
from taxonomist.taxonomy.errors import ConflictError, DamagedError, NotFoundError, StorageError

__all__ = ["NOWHERE", "Alias", "Aliases", "moved", "removed", "rolled_back", "way_back"]


@dataclass(frozen=True)
class Change:
    """A promotion: `before` maps every name that it moved to its champion before; `number` counts promotions."""

    number: int
    before: Mapping[str, str | None]


@dataclass(frozen=True)
class Alias:
    """The champion of one name, and how it came to be.

    `before` maps every name that the last promotion moved (this one included) to its champion before; `number` is that
    promotion's, 0 where it was stored without one. `earlier` are the promotions before it, the latest first. A rollback
    removes the last promotion, so that the next one goes further back. `changes` counts promotions and rollbacks.
    `last` is the number of the last version that was removed: the next one has a higher number.
    """

    champion: str | None = None
    before: Mapping[str, str | None] = field(default_factory=dict)
    changes: int = 0
    number: int = 0
    earlier: tuple[Change, ...] = ()
    last: int = 0

    @property
    def history(self) -> tuple[Change, ...]:
        """The promotions that a rollback can undo, the latest first."""
        return (Change(self.number, self.before), *self.earlier) if self.before else ()


NOWHERE = Alias()
_MOST_CHANGES = 100  # of one name that can be undone
_FORMAT = 2
_CONTENT = TypeAdapter(dict[str, Alias])
Stamp = tuple[int, int, int]


def moved(
    now: Mapping[str, Alias], to: Mapping[str, str | None], instead_of: Moves | None = None
) -> Mapping[str, Alias]:
    """Return the aliases with the new champions `to`. Names with that champion already are not part of the change.

    Raises `ConflictError` when a champion is not the one of `instead_of`.
    """
    for name, expected in (instead_of or {}).items():
        if (seen := now.get(name, NOWHERE).champion) != expected:
            raise ConflictError(f'The champion of "{name}" is now {seen}, not {expected}.')
    before = {name: old for name, version in to.items() if (old := now.get(name, NOWHERE).champion) != version}
    number = 1 + max((alias.number for alias in now.values()), default=0)
    after = {}
    for name in before:
        alias = now.get(name, NOWHERE)
        history = alias.history[: _MOST_CHANGES - 1]
        after[name] = Alias(to[name], before, alias.changes + 1, number, history, alias.last)
    return {**now, **after}


def way_back(now: Mapping[str, Alias], name: str) -> Mapping[str, str | None]:
    """Return the champions before the last promotion of the name. Raises `NotFoundError` when the name had none."""
    before = now.get(name, NOWHERE).before
    if before.get(name) is None:
        raise NotFoundError(f'"{name}" has no previous version to go back to.')
    return before


def rolled_back(now: Mapping[str, Alias], name: str) -> Mapping[str, Alias]:
    """Return the aliases before the last promotion of the name, of all names that it moved.

    What was promoted since then, of one of these names alone, is undone too. Raises `NotFoundError` as `way_back` does.
    """
    undone = now.get(name, NOWHERE).number
    after = dict(now)
    for other, version in way_back(now, name).items():
        alias = now.get(other, NOWHERE)
        history = tuple(change for change in alias.history if change.number < undone)
        last = history[0] if history else Change(0, {})
        changes = alias.changes + (version != alias.champion)
        after[other] = Alias(version, last.before, changes, last.number, history[1:], alias.last)
    return after


def removed(now: Mapping[str, Alias], name: str, last: int) -> Mapping[str, Alias]:
    """Return the aliases without the name, in the promotions of others too. `last` is the number of its last version.

    What stays of it is that number, and the count of its changes.
    """
    after = {}
    for other, alias in now.items():
        earlier = tuple(replace(change, before=_without(change.before, name)) for change in alias.earlier)
        after[other] = replace(alias, before=_without(alias.before, name), earlier=earlier)
    alias = now.get(name, NOWHERE)
    last = max(last, alias.last)
    if last or alias.champion is not None:
        is_new = alias.champion is not None or last != alias.last
        after[name] = Alias(changes=alias.changes + is_new, last=last)
    return after


def _without(before: Mapping[str, str | None], name: str) -> dict[str, str | None]:
    return {other: version for other, version in before.items() if other != name}


class Aliases:
    """The file `aliases.json`: {"format": 2, "aliases": {name: alias}}, in format 1 {name: alias}.

    The file is replaced in one step. Its content is cached until the file changes, so a call costs one `stat`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cached: tuple[Stamp, Mapping[str, Alias]] = ((0, 0, 0), {})

    def all(self) -> Mapping[str, Alias]:
        """Return the aliases of all names that ever had a champion. Raises `DamagedError` or `StorageError`."""
        stamp = self._stamp()
        cached = self._cached  # one reference, which another thread may replace
        if cached[0] != stamp:
            cached = self._cached = (stamp, self._read())
        return cached[1]

    def get(self, name: str) -> Alias:
        """Return the alias of one name; an empty alias when it never had a champion."""
        return self.all().get(name, NOWHERE)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock against other changes until the block ends."""
        with storage_errors(self._path):
            lock = FileLock(self._path.with_name(".aliases.lock"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def move(self, to: Mapping[str, str | None], instead_of: Moves | None = None) -> None:
        """Set champions in one step, as `moved` does. Call it inside `locked`.

        Raises `ConflictError` and changes nothing when a champion is not the one of `instead_of`.
        """
        self.write(moved(self.all(), to, instead_of))

    def write(self, then: Mapping[str, Alias]) -> None:
        """Replace the aliases in one step. Call it inside `locked`."""
        if then == self.all():
            return
        with storage_errors(self._path):
            old = self._stamp()
            content = {FORMAT: _FORMAT, "aliases": _CONTENT.dump_python(dict(then), mode="json")}
            write_atomically(self._path, json.dumps(content, indent=1, ensure_ascii=False).encode())
            new = self._path.stat()
            if new.st_mtime_ns <= old[0]:  # the clock of the file system is too coarse for two writes
                os.utime(self._path, ns=(new.st_atime_ns, old[0] + 1))

    def _stamp(self) -> Stamp:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        except OSError as error:
            raise StorageError(f"Cannot read {self._path} ({error.strerror}).") from error
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _read(self) -> Mapping[str, Alias]:
        with storage_errors(self._path):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return {}
        try:
            content = json.loads(data)
            if isinstance(content, dict) and isinstance(content.get(FORMAT), int):  # otherwise format 1
                check_format(self._path, content[FORMAT], _FORMAT)
                content = content.get("aliases")
            return _CONTENT.validate_python(content)
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise DamagedError(
                f"{self._path} cannot be read ({reason}).", hint="Delete it and promote the versions to serve again."
            ) from error
