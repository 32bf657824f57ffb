"""Projects, ML backends, webhooks and predictions of Label Studio's API, as typed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

CONNECTED = "CO"


@dataclass(frozen=True)
class Project:
    """A project. `model_version` names the ML backend (by its title) or the predictions that annotators see."""

    id: str
    title: str
    label_config: str
    created_at: datetime
    show_collab_predictions: bool  # whether tasks are pre-filled
    model_version: str
    sampling: str
    tasks: int
    annotated_tasks: int
    annotations: int
    skipped: int = 0  # annotations by which a task was skipped; they are not in `annotations`

    @property
    def created(self) -> str:
        """The time stamp that Label Studio appends to the project's number in /setup and /predict, in whole seconds."""
        return str(int(self.created_at.timestamp()))


@dataclass(frozen=True)
class MlBackend:
    """A row of a project's ML backends. `state` is two letters, `CO` when the last check reached the backend."""

    id: int
    project: str
    url: str
    title: str
    state: str
    state_name: str
    error: str
    model_version: str
    auth_method: str
    username: str

    @property
    def is_connected(self) -> bool:
        """Whether Label Studio reached the backend at its last check."""
        return self.state == CONNECTED


@dataclass(frozen=True)
class Webhook:
    """A webhook of a project."""

    id: int
    url: str
    headers: Mapping[str, str] = field(repr=False)  # they hold a secret
    is_active: bool
    for_all_actions: bool
    with_payload: bool


class Prediction(NamedTuple):
    """A prediction to store: `score` in 0..1, `result` the regions as Label Studio's JSON."""

    task_id: str | int
    model_version: str
    score: float
    result: Sequence[Mapping[str, Any]]
