"""Reads the settings, and explains what is wrong with one."""

from __future__ import annotations

import logging
import os

from pydantic import ValidationError
from rapidfuzz import process

from taxonomist.backend.settings.settings import REMOVED, Settings
from taxonomist.taxonomy.errors import ConfigError

log = logging.getLogger(__name__)


def load_settings(**overrides: object) -> Settings:
    """Return the settings; `overrides` (None for not given) take precedence over environment and file.

    Raises `ConfigError` that names each wrong setting with the value seen, and the nearest name for a misspelt one.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    for name, reason in REMOVED.items():
        if os.environ.get(variable := f"TAXONOMIST_{name.upper()}"):
            log.warning("%s has no effect any more: %s", variable, reason)
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(part) for part in error.errors())) from None
    except ValueError as error:  # a taxonomist.toml that is not TOML
        raise ConfigError(f"taxonomist.toml cannot be read: {error}.") from None


def _explain(part: object) -> str:
    assert isinstance(part, dict)
    name = str(part["loc"][0]) if part["loc"] else ""
    if part["type"] == "extra_forbidden":
        near = process.extractOne(name, Settings.model_fields.keys(), score_cutoff=60)
        return f"There is no setting '{name}'" + (f", did you mean '{near[0]}'?" if near else ".")
    secret = "SecretStr" in str(Settings.model_fields[name].annotation) if name in Settings.model_fields else True
    seen = "" if secret or "@" in str(part["input"]) else f" (seen: {part['input']!r})"
    variable = f"TAXONOMIST_{name.upper()}"
    origin = f" ({variable})" if os.environ.get(variable) else ""
    return f"Setting '{name}'{origin}: {part['msg'].removeprefix('Value error, ')}{seen}"
