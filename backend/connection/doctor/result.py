"""The result of one check of `taxonomist doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from taxonomist.taxonomy.errors import TaxonomistError

Status = Literal["ok", "warn", "fail"]
_STATE_FIX = "repair the home folder and make it writable, or set TAXONOMIST_HOME to another one"


@dataclass(frozen=True)
class Check:
    """The subject of a check, the value seen, and, unless it is right, the command or setting that repairs it."""

    name: str
    status: Status
    detail: str
    fix: str = ""

    def named(self, name: str) -> Check:
        """Return the same check with another name."""
        return replace(self, name=name)


def passed(name: str, detail: str) -> Check:
    """Return a check whose subject is right."""
    return Check(name, "ok", detail)


def warned(name: str, detail: str, fix: str) -> Check:
    """Return a check whose subject works, but could work better."""
    return Check(name, "warn", detail, fix)


def failed(name: str, detail: str, fix: str) -> Check:
    """Return a check whose subject does not work."""
    return Check(name, "fail", detail, fix)


def failure(name: str, error: TaxonomistError, fix: str = "") -> Check:
    """Return a failed check for an error; its hint is the fix."""
    return failed(name, str(error.args[0]), error.hint or fix)


def guarded(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Yield the checks; an error that ends them early becomes a failed check with that name."""
    try:
        yield from checks
    except TaxonomistError as error:
        yield failure(name, error, _STATE_FIX)
    except OSError as error:
        yield failed(name, f"{error.filename or 'a file'}: {error.strerror or error}", _STATE_FIX)
