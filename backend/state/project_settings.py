"""Settings that differ by project. The project's record has those that were set; for others the environment counts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, model_validator
from rapidfuzz import process

from taxonomist.backend.settings import (
    Agreement,
    Annotators,
    Order,
    ProductField,
    Promotion,
    Settings,
    Share,
    TargetPrecision,
    needed_share,
)
from taxonomist.taxonomy.agreement import AgreementPolicy
from taxonomist.taxonomy.calibration import Promise
from taxonomist.taxonomy.errors import ConfigError


class ProjectChoices(BaseModel, frozen=True):
    """What was set for one project; None where the environment counts."""

    product_field: ProductField | None = None
    annotators: Annotators | None = None
    agreement: Agreement | None = None
    min_agreement: Share | None = None
    target: TargetPrecision | None = None
    promise: Promise | None = None
    promotion: Promotion | None = None
    order: Order | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_former_name(cls, values: Any) -> Any:
        """Read a share under the name `agreement`, which earlier releases gave it."""
        if isinstance(values, dict) and _is_share(values.get("agreement")):
            values = {**values, "agreement": None, "min_agreement": values["agreement"]}
        return values


FIELDS: Mapping[str, str] = {
    "product_field": "product_field",
    "annotators": "min_annotators",
    "agreement": "agreement",
    "min_agreement": "min_agreement",
    "target": "target_precision",
    "promise": "promise",
    "promotion": "promotion",
    "order": "labelling_order",
}
"""The setting of the environment that is the default of each setting of a project."""


@dataclass(frozen=True)
class ProjectSettings:
    """The settings that are in force for a project.

    `product_field` names the task field, or is a pattern of the file name, that names an image's product; None where
    nothing does. `annotators` must name a path. `agreement` says how they agree, and `min_agreement` which share of
    them must, None where the way says it. `target` is the precision that suggestions must reach, `promise` how it is
    kept, None where the number of labels says it. With the promotion "manual" a person promotes each version. `order`
    is that of labelling, "none" is Label Studio's.
    """

    product_field: str | None
    annotators: int
    agreement: Agreement
    min_agreement: float | None
    target: float
    promise: Promise | None
    promotion: Literal["auto", "manual"]
    order: Order

    def policy(self, policy: AgreementPolicy) -> AgreementPolicy:
        """Return the rule of agreement with this project's numbers."""
        share = needed_share(self.agreement, self.min_agreement)
        return replace(policy, min_annotators=self.annotators, min_agreement=share)


def effective_settings(choices: ProjectChoices, settings: Settings) -> ProjectSettings:
    """Return what was set for the project, and the environment's values for the rest."""
    values = {name: _chosen(choices, settings, name) for name in FIELDS}
    return ProjectSettings(**values)


def origin_of(choices: ProjectChoices, settings: Settings, name: str) -> str:
    """Return where the value of a project's setting comes from, in words."""
    if getattr(choices, name) is not None:
        return "project"
    field = FIELDS[name]
    variable = f"TAXONOMIST_{field.upper()}"
    if os.environ.get(variable):
        return variable
    return "taxonomist.toml" if field in settings.model_fields_set else "default"


def changed_choices(choices: ProjectChoices, assignments: Iterable[str]) -> ProjectChoices:
    """Return the choices after assignments such as `annotators=3`; `annotators=` returns to the environment's value.

    The environment's names (`min_annotators`) are understood too. Raises `ConfigError` that names the setting, the
    value seen and what is allowed.
    """
    former = {field: name for name, field in FIELDS.items()}
    changes: dict[str, Any] = {}
    for assignment in assignments:
        given, equals, value = (part.strip() for part in assignment.partition("="))
        name = former.get(given, given)
        if not equals:
            raise ConfigError(f"{assignment!r} is not an assignment.", hint=f"Write {given}=VALUE.")
        if name not in FIELDS:
            near = process.extractOne(given, FIELDS.keys(), score_cutoff=60)
            raise ConfigError(
                f"There is no setting {given!r} of a project" + (f", did you mean {near[0]!r}?" if near else "."),
                hint=f"They are: {', '.join(FIELDS)}. All others are set in the environment.",
            )
        if name == "agreement" and _is_share(value):  # its name in earlier releases
            name = "min_agreement"
        changes[name] = value or None
    try:
        return ProjectChoices.model_validate(choices.model_dump() | changes)
    except ValidationError as error:
        part = error.errors()[0]
        raise ConfigError(f"Setting '{part['loc'][0]}': {part['msg']} (seen: {part['input']!r}).") from None


def _is_share(value: object) -> bool:
    try:
        return value is not None and math.isfinite(float(str(value)))
    except ValueError:
        return False


def _chosen(choices: ProjectChoices, settings: Settings, name: str) -> Any:
    value = getattr(choices, name)
    return getattr(settings, FIELDS[name]) if value is None else value
