"""The one tree of exceptions.

Every error that a person can meet derives from `TaxonomistError` and says what was wrong, the value seen and what to
do about it. `taxonomist.backend.error_codes` maps the classes to HTTP statuses and exit codes.
"""


class TaxonomistError(Exception):
    """Root of all errors raised on purpose. `hint` says what to do next, when there is something to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.hint}" if self.hint else message


class ConfigError(TaxonomistError):
    """A labelling config, a setting or a command's argument cannot be used."""


class BadRequestError(TaxonomistError):
    """What a client sent is not what the protocol allows."""


class AuthError(TaxonomistError):
    """Credentials are missing or wrong."""


class ImageDecodingError(TaxonomistError):
    """Bytes that should be a picture cannot be decoded, or are too large to be decoded safely."""


class ImageError(TaxonomistError):
    """The bytes of an image cannot be had."""


class ImageNotFoundError(ImageError):
    """Nothing is stored at that address."""


class ImageForbiddenError(ImageError):
    """The address is not one that we may read: host not allowed, path outside the folder, or access denied."""


class ImageTooLargeError(ImageError):
    """The image has more bytes than `max_image_bytes`."""


class ImageUnavailableError(ImageError):
    """The server that keeps the image is slow, down or failing; trying again later may help."""


class StorageError(TaxonomistError):
    """State on disk cannot be read or written."""


class NotFoundError(StorageError):
    """A document, version or project that was asked for does not exist."""


class ConflictError(StorageError):
    """Somebody else changed the document since it was read."""


class DamagedError(StorageError):
    """Stored bytes do not match their checksum or their format."""


class TrainingError(TaxonomistError):
    """A model cannot be trained or evaluated from the data at hand."""


class LabelStudioError(TaxonomistError):
    """Label Studio refused a call or cannot be reached."""
