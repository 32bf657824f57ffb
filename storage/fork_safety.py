"""Makes locks, connections and threads anew in a forked child process, because a child must not share them."""

import ctypes
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

__all__ = ["after_fork", "never_finalise"]

_hooks: list[WeakMethod[Callable[[], Any]]] = []


def after_fork(method: Callable[[], Any]) -> None:
    """Call the bound method in every child process that this process forks, as long as its object exists."""
    _hooks[:] = [hook for hook in _hooks if hook() is not None]
    _hooks.append(WeakMethod(method))


def never_finalise(inherited: object) -> None:
    """Prevent the finalisation of an object inherited from the parent, even at the end of the interpreter.

    Its finalisation would close connections whose file descriptors the parent still uses.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_child() -> None:
    for hook in _hooks:
        if (method := hook()) is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
