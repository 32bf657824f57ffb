"""The commands by name. The module of a command is imported when it is called, so that each starts quickly.

`taxonomist serve` only reads settings before its process becomes the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperCommand, TyperGroup

MODULES = {
    "demo": ("demo",),
    "serve": ("serve",),
    "worker": ("worker",),
    "project.connect": ("connect", "doctor"),
    "project.status": ("status", "projects"),
    "project.retry": ("retry",),
    "project.settings": ("settings",),
    "project.images": ("import", "sync", "embed", "similar"),
    "project.predict": ("predict",),
    "project.labels": ("labels",),
    "project.taxonomy": ("taxonomy",),
    "project.audit": ("audit",),
    "project.forget": ("forget",),
    "training.models": ("train", "evaluate", "models"),
    "data": ("data",),
    "training.pretrain": ("prepare", "pretrain"),
    "training.study": ("study",),
    "training.backbone": ("backbone",),
    "azure": ("submit", "cosmos"),
}
"""The commands of each module, in the order of the help."""


class CommandGroup(TyperGroup):
    """The root command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing adds to it

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the names without their help, for which all modules would be imported."""
        commands, self.commands = self.commands, {name: TyperCommand(name) for name in self.commands}
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.commands = commands


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is first taken."""

    def __init__(self) -> None:
        self._taken: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._taken:
            module = next((module for module, names in MODULES.items() if name in names), None)
            if module is None:
                raise KeyError(name)
            part = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
            import_module(f"taxonomist.backend.cli.{module}").register(part)
            self._taken |= typer.main.get_group(part).commands
        return self._taken[name]

    def __iter__(self) -> Iterator[str]:
        return (name for names in MODULES.values() for name in names)

    def __len__(self) -> int:
        return sum(map(len, MODULES.values()))
