"""The HTTP status and the exit code of each error."""

from __future__ import annotations

from taxonomist.taxonomy.errors import (
    AuthError,
    BadRequestError,
    ConfigError,
    ConflictError,
    DamagedError,
    HeldError,
    ImageDecodingError,
    ImageError,
    ImageForbiddenError,
    ImageNotFoundError,
    LabelStudioError,
    NotFoundError,
    StorageError,
    TaxonomistError,
    TrainingError,
)

# The first class that matches decides, so special ones stand before general ones.
_TABLE: tuple[tuple[type[TaxonomistError], int, int], ...] = (
    (BadRequestError, 400, 2),
    (ConfigError, 400, 2),
    (AuthError, 401, 3),
    (ImageForbiddenError, 403, 3),
    (NotFoundError, 404, 4),
    (ImageNotFoundError, 404, 4),
    (ConflictError, 409, 5),
    (HeldError, 409, 9),
    (TrainingError, 409, 5),
    (ImageDecodingError, 422, 6),
    (ImageError, 502, 6),
    (LabelStudioError, 502, 7),
    (DamagedError, 500, 8),
    (StorageError, 507, 8),
    (TaxonomistError, 500, 1),
)


def http_status(error: TaxonomistError) -> int:
    """Return the HTTP status for an error."""
    return next(status for kind, status, _ in _TABLE if isinstance(error, kind))


def exit_code(error: TaxonomistError) -> int:
    """Return the exit code of the command line for an error."""
    return next(code for kind, _, code in _TABLE if isinstance(error, kind))
