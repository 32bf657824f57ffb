"""Where the images of imported manifests are read: an address keeps its beginning when its folder moves."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from taxonomist.storage.addresses import file_path, is_ambiguous_path
from taxonomist.storage.images import Images
from taxonomist.storage.images.folder import FolderImages
from taxonomist.taxonomy.errors import ImageForbiddenError, ImageNotFoundError


class ImageFolder(BaseModel, frozen=True):
    """The images whose addresses begin with `address`.

    They are read from the first of `folders` that has them. At first `address` is the folder itself; images that moved
    keep their addresses, and with them their embeddings and their part of the split. `links` are the folders outside
    into which links in `folders` may lead, since the person who imported the images named them. `sources` are the
    manifests whose images are here.

    `has_bare_paths` says that addresses here may be paths that could also be Label Studio's: an earlier release, which
    did not tell them apart, recorded the folder.
    """

    address: str
    folders: tuple[Path, ...]
    links: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    has_bare_paths: bool = True

    def below(self, address: str) -> str | None:
        """Return the rest of an address that begins with this one, None for other addresses."""
        if is_ambiguous_path(address) and not self.has_bare_paths:
            return None
        path, beginning = file_path(address), self.address.rstrip("/") + "/"
        return path[len(beginning) :] if path.startswith(beginning) else None


def image_folder(folder: Path) -> ImageFolder:
    """Return a folder whose images have their paths as addresses."""
    return ImageFolder(address=folder.as_posix(), folders=(folder,), has_bare_paths=False)


class ImportedImages:
    """`Images` of imported manifests, from their folders; `others` reads all other addresses."""

    def __init__(self, folders: Sequence[ImageFolder], max_bytes: int, others: Images) -> None:
        # Of two beginnings of an address the longer one counts.
        self._folders = sorted(folders, key=lambda entry: -len(entry.address))
        self._readers = {
            entry: [FolderImages(folder, max_bytes, entry.links) for folder in entry.folders] for entry in folders
        }
        self._others = others

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        missing: ImageNotFoundError | None = None
        for entry in self._folders:
            if (name := entry.below(uri)) is None:
                continue
            # Folders that moved to another system may have the names in another form.
            forms = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
            for reader in self._readers[entry]:
                for spelling in forms:
                    try:
                        return reader.read(f"./{spelling}")  # a name with a colon is no address
                    except ImageNotFoundError as error:
                        missing = missing or error
        if missing is None:
            return self._others.read(uri)
        missing.hint = "If the folder moved, import its manifest again with --images and the new place."
        if is_ambiguous_path(uri):
            with suppress(ImageForbiddenError):  # no Label Studio is set up
                return self._others.read(uri)
        raise missing
