"""The one tree of exceptions of all packages.

Every error that a user can see derives from `TaxonomistError` and says what is wrong, the value seen and what to do.
`taxonomist.backend.error_codes` maps the classes to HTTP statuses and exit codes.

    TaxonomistError
    ├── ConfigError               a labelling config, a setting or an argument of a command is not usable
    │   └── ConfigTooLargeError   a labelling config exceeds a limit; nothing of it is stored
    ├── BadRequestError           a request does not follow the protocol
    ├── AuthError                 credentials are missing or wrong
    ├── ImageDecodingError        bytes are not an image, or an image that is too large to decode
    ├── ImageError                the bytes of an image are not available
    │   ├── ImageNotFoundError
    │   ├── ImageForbiddenError
    │   ├── ImageTooLargeError
    │   └── ImageUnavailableError
    ├── StorageError              stored state cannot be read or written
    │   ├── NotFoundError
    │   ├── ConflictError
    │   └── DamagedError
    │       └── NewerFormatError  a newer release wrote it; it stays as it is
    ├── TrainingError             a model cannot be trained or evaluated from the data
    │   └── HeldError             a training waits for a person's decision
    └── LabelStudioError          Label Studio refused a call or is not reachable
"""

from taxonomist.taxonomy.redaction import redacted


class TaxonomistError(Exception):
    """Root of all errors that the program raises itself. `hint` says what to do, if anything can be done.

    Messages go to logs, pages and tables, so addresses lose their queries and passwords here.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(redacted(message))
        self.hint = redacted(hint) if hint else hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.hint}" if self.hint else message


class ConfigError(TaxonomistError):
    """A labelling config, a setting or an argument of a command is not usable."""


class ConfigTooLargeError(ConfigError):
    """A labelling config has more text, levels or nodes than are supported. Nothing of it is stored."""


class BadRequestError(TaxonomistError):
    """The request of a client does not follow the protocol."""


class AuthError(TaxonomistError):
    """Credentials are missing or wrong."""


class ImageDecodingError(TaxonomistError):
    """Bytes cannot be decoded as an image, or the image is too large to decode safely."""


class ImageError(TaxonomistError):
    """The bytes of an image are not available."""


class ImageNotFoundError(ImageError):
    """There is no image at the address."""


class ImageForbiddenError(ImageError):
    """The address may not be read: the host is not allowed, the path leaves the folder, or access is denied."""


class ImageTooLargeError(ImageError):
    """The image has more bytes than `max_image_bytes`."""


class ImageUnavailableError(ImageError):
    """The server of the image is slow, down or failing; a later attempt may succeed."""


class StorageError(TaxonomistError):
    """Stored state cannot be read or written, on disk or in Azure."""


class NotFoundError(StorageError):
    """A document, version or project does not exist."""


class ConflictError(StorageError):
    """The document was changed since it was read."""


class DamagedError(StorageError):
    """Stored bytes do not match their checksum or format."""


class NewerFormatError(DamagedError):
    """Stored bytes have a format of a newer release."""


class TrainingError(TaxonomistError):
    """A model cannot be trained or evaluated from the available data."""


class HeldError(TrainingError):
    """A training waits for a person's decision on labels whose node the taxonomy has no longer."""


class LabelStudioError(TaxonomistError):
    """Label Studio refused a call or is not reachable."""
