"""The outcome of one check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from taxonomist.taxonomy.errors import TaxonomistError

Status = Literal["ok", "warn", "fail"]
_STATE_FIX = "make the home folder whole and writable, or set TAXONOMIST_HOME to another one"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was seen, and, when it is not well, the command or setting that mends it."""

    name: str
    status: Status
    detail: str
    fix: str = ""

    def named(self, name: str) -> Check:
        """The same under another name."""
        return replace(self, name=name)


def passed(name: str, detail: str) -> Check:
    """It is well."""
    return Check(name, "ok", detail)


def warned(name: str, detail: str, fix: str) -> Check:
    """It works, but not as well as it could."""
    return Check(name, "warn", detail, fix)


def failed(name: str, detail: str, fix: str) -> Check:
    """Something does not work until it is mended."""
    return Check(name, "fail", detail, fix)


def failure(name: str, error: TaxonomistError, fix: str = "") -> Check:
    """A failed check from an error; its hint is the fix."""
    return failed(name, str(error.args[0]), error.hint or fix)


def guarded(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks; an error that ends them early becomes a failed check called `name`."""
    try:
        yield from checks
    except TaxonomistError as error:
        yield failure(name, error, _STATE_FIX)
    except OSError as error:
        yield failed(name, f"{error.filename or 'a file'}: {error.strerror or error}", _STATE_FIX)
