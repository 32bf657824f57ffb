"""What must not be shared with a child process (locks, connections, threads) is made anew there."""

import ctypes
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

__all__ = ["after_fork", "never_finalise"]

_hooks: list[WeakMethod[Callable[[], Any]]] = []


def after_fork(method: Callable[[], Any]) -> None:
    """Call the bound method in every child that this process forks, as long as its object lives."""
    _hooks[:] = [hook for hook in _hooks if hook() is not None]
    _hooks.append(WeakMethod(method))


def never_finalise(inherited: object) -> None:
    """Let an object of the parent never be finalised here, not even when the interpreter ends: it would close
    connections of an event loop whose descriptors the parent uses, too."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_child() -> None:
    for hook in _hooks:
        if (method := hook()) is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
