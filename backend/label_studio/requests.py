"""The bodies that Label Studio sends to /predict and /setup, as typed values.

Bodies are parsed once, here and in `webhooks`. Unknown keys are ignored, since every release of Label Studio adds some.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from taxonomist.backend.settings import WebAddress
from taxonomist.backend.state.project_records import is_project
from taxonomist.taxonomy.errors import BadRequestError
from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.names import shorten

Model = TypeVar("Model", bound=BaseModel)


MAX_ID_CHARACTERS = 200
MAX_ADDRESS_CHARACTERS = 4096


def _short(id: int | str) -> int | str:
    if len(str(id)) > MAX_ID_CHARACTERS:
        raise ValueError(f"has {len(str(id)):,} characters, more than {MAX_ID_CHARACTERS}")
    return id


Id = Annotated[int | str, AfterValidator(_short)]
"""An id of Label Studio's, or of a file that was written by hand."""


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_with_zone)]
"""A time with its zone; one that is written without a zone is in UTC."""


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    """Return None for a value that cannot be read: a time or a count costs no task."""
    try:
        return read(value)
    except ValueError:
        return None


Lenient = WrapValidator(_or_none)


class Task(BaseModel):
    """A task as Label Studio sends it to /predict and in webhooks.

    `unreadable` says what is wrong with a task that cannot be read; it has no image then.
    """

    id: Id
    data: dict[str, Any] = {}
    created_at: Annotated[Time | None, Lenient] = None
    updated_at: Annotated[Time | None, Lenient] = None
    total_predictions: Annotated[int | None, Lenient] = 0
    unreadable: str | None = None

    @field_validator("data", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @property
    def is_saved(self) -> bool:
        """Whether Label Studio has stored the task: the task of a preview has no id, or 0."""
        return str(self.id).strip() not in {"", "0"} and not str(self.id).startswith("-")

    def images(self, config: LabelConfig) -> dict[str, str]:
        """Return the addresses of the task's images by the name of their `<Image>`.

        An image whose fields the data lacks is missing. Raises `BadRequestError` when there is none.
        """
        if self.unreadable:
            raise BadRequestError(self.unreadable)
        images = config.addresses(self.data)
        if not images:
            wanted = " or ".join(f"value={template!r}" for template in config.images.values())
            fields = (
                ", ".join(
                    f"{shorten(key, 40)}={shorten(repr(value), 40)}" for key, value in list(self.data.items())[:5]
                )
                or "none"
            )
            raise BadRequestError(f"task {self.id}: it has no image for {wanted}; its fields are: {fields}.")
        for name, uri in images.items():
            if len(uri) > MAX_ADDRESS_CHARACTERS:
                raise BadRequestError(
                    f"task {self.id}: the address of {name!r} has {len(uri):,} characters, more than "
                    f"{MAX_ADDRESS_CHARACTERS:,}: {shorten(uri, 40)}"
                )
        return images


class PredictRequest(BaseModel):
    """The body of /predict. A task that cannot be read costs only itself: it is `unreadable`."""

    tasks: list[Task]
    label_config: str
    project: str

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_by_one(cls, value: object) -> object:
        return [_readable(task) for task in value] if isinstance(value, list) else value

    @field_validator("project", mode="before")
    @classmethod
    def _number_only(cls, value: object) -> str:
        return project_id(value)


def _readable(task: object) -> Task:
    try:
        return Task.model_validate(task)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "it"
        id = task.get("id") if isinstance(task, dict) else None
        name = shorten(id, 40) if isinstance(id, int | str) else "without id"
        return Task(
            id=name, unreadable=f"task {name} cannot be read: {field}: {first['msg']} (seen: {shorten(repr(task))})."
        )


class SetupRequest(BaseModel):
    """The body of /setup. `created` is the time stamp that Label Studio appends to the project's number, `hostname` the
    address by which it knows itself, None where that is not a web address."""

    project: str
    label_config: str = Field(alias="schema")
    hostname: Annotated[WebAddress | None, Lenient] = None
    access_token: SecretStr | None = None
    created: Annotated[str, Field(max_length=MAX_ID_CHARACTERS)] | None = None


def parse_setup(body: object) -> SetupRequest:
    """Return the body of /setup. Raises `BadRequestError`."""
    if isinstance(body, dict):
        number = project_id(body.get("project"))
        body = {**body, "project": number, "created": str(body["project"]).partition(".")[2] or None}
    return validated(SetupRequest, body)


def parse_predict(body: object) -> PredictRequest:
    """Return the body of /predict. Raises `BadRequestError`."""
    return validated(PredictRequest, body)


def project_id(value: object) -> str:
    """Return Label Studio's project number from `4`, `"4"` or `"4.1795531934"` (number and time of creation).

    Raises `BadRequestError`.
    """
    number = str(value).partition(".")[0]
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not is_project(number):
        raise BadRequestError(f"No project number in {shorten(repr(value))}.")
    return number


def validated(model: type[Model], body: object) -> Model:
    """Return the body as that model. Raises `BadRequestError` that names the first wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise BadRequestError(f"{model.__name__}: {field or 'body'}: {first['msg']}.") from None
