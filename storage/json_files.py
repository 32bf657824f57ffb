"""JSON files that contain one pydantic model and the version of their format."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT, check_format, format_of
from taxonomist.taxonomy.errors import BadRequestError, DamagedError

__all__ = ["read_model", "write_model"]

Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model], *, newest: int = 1, hint: str) -> Model | None:
    """Return the model in the file, None when the file does not exist.

    Raises `DamagedError` with the hint when the content is not valid, `DamagedError` when its format is newer than
    `newest`, and `StorageError` when the file cannot be read.
    """
    with storage_errors(path):
        if path.exists() and not path.is_file():  # reading a pipe may never end
            raise DamagedError(f"{path} is no file.", hint=hint)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is not JSON ({error}).", hint=hint) from error
    check_format(path, format_of(content), newest)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(f"{path} cannot be read ({_first_problem(error)}).", hint=hint) from error


def write_model(path: Path, value: BaseModel, *, version: int = 1) -> None:
    """Replace the file in one step. Only its owner may read it, because some models contain a token.

    Raises `BadRequestError` for a model that could not be read back, such as one of `model_copy`, and `StorageError`.
    """
    try:
        content = {FORMAT: version, **value.model_dump(mode="json", warnings=False)}
        data = json.dumps(content, indent=1, ensure_ascii=False).encode()
        type(value).model_validate_json(data)
    except ValidationError as error:
        raise BadRequestError(
            f"{path.name} would not be readable ({_first_problem(error)}); it stays as it is."
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequestError(f"{path.name} cannot be written ({error}); it stays as it is.") from None
    with storage_errors(path):
        write_atomically(path, data)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(step) for step in first['loc']) or 'content'}: {first['msg']}"
