"""What a shell completes besides names of commands and options: projects, versions and names of settings.

Everything is read from the names of files in the home folder. Nothing is opened, made, migrated or asked of a network,
so that a press of the tabulator key is quick and changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import typer

from taxonomist.backend.settings import load_settings
from taxonomist.storage.registry.model_version import MANIFEST
from taxonomist.taxonomy.errors import TaxonomistError

STARTER = "starter"


def projects(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the projects that begin like this."""
    return [name for name in _projects(ctx) if name.startswith(incomplete)]


def model_versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the versions of the models of the project in the command line, or of the only one, the newest first."""
    known = [project] if (project := ctx.params.get("project")) else _projects(ctx)
    return _versions(ctx, f"project-{known[0]}", incomplete) if len(known) == 1 else []


def backbone_versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the versions of the backbone, the newest first."""
    return _versions(ctx, "backbone", incomplete)


def backbones_to_adopt(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the versions of the backbone, and the name of the one that ships."""
    return [*backbone_versions(ctx, incomplete), *([STARTER] if STARTER.startswith(incomplete) else [])]


def setting_names(incomplete: str) -> list[str]:
    """Return the settings of a project, each with its equals sign."""
    from taxonomist.backend.state.project_settings import FIELDS  # noqa: PLC0415 - only this completion needs it

    return [f"{name}=" for name in FIELDS if name.startswith(incomplete)]


def _projects(ctx: typer.Context) -> list[str]:
    return sorted(unquote(name.removesuffix(".json")) for name in _names(ctx, "projects") if name.endswith(".json"))


def _versions(ctx: typer.Context, name: str, incomplete: str) -> list[str]:
    numbers = [version[1:] for version in _names(ctx, "models", name, having=MANIFEST) if version[1:].isdigit()]
    versions = [f"v{number}" for number in sorted(map(int, numbers), reverse=True)]
    return [version for version in versions if version.startswith(incomplete)]


def _names(ctx: typer.Context, *folder: str, having: str = "") -> list[str]:
    """Return the names in a folder of the home, none where it cannot be read; only those `having` a file below them."""
    try:
        place = Path(load_settings(home=ctx.find_root().params.get("home")).home, *folder)
        return [path.name for path in place.iterdir() if not having or (path / having).is_file()]
    except (OSError, ValueError, TaxonomistError):
        return []
