"""The addresses of a manifest's images. An address says which image it is, so it outlives a move of its folder.

It is that of a file (`file_address`), so that no path is taken for an upload in Label Studio. Earlier releases did not
tell them apart: an image that the project knows by such a path keeps it, unless another file has the same id by it.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.labelling.manifests.reading.files import FoundFile, cover
from taxonomist.backend.state.image_folders import ImageFolder, image_folder
from taxonomist.storage.addresses import file_address, file_path, is_ambiguous_path
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ConfigError

MOST_LINK_FOLDERS = 64


@dataclass(frozen=True)
class Addresses:
    """The address of each file by its path, and the project's image folders with those of the files.

    `moved` are the files that are now read from another folder than before.
    """

    of_path: Mapping[str, str]
    folders: tuple[ImageFolder, ...]
    moved: tuple[FoundFile, ...]


def assign_addresses(
    files: Iterable[FoundFile],
    source: str,
    known: Collection[str],
    folders: Sequence[ImageFolder],
    others: Collection[str] = (),
) -> Addresses:
    """Return the addresses of the files of a source.

    `known` are the addresses that the source had before, `others` those of the project's other manifests. Files of a
    folder that the project reads keep its beginning. In another folder, names that the source knows mean that the
    images moved there. Raises `ConfigError` when links lead to too many places.
    """
    by_folder: dict[str, list[FoundFile]] = {}
    for file in dict.fromkeys(files):
        by_folder.setdefault(file.folder, []).append(file)
    plan = _Plan(known, folders, others)
    for folder, members in by_folder.items():
        plan.keep(folder, members)
    for folder, members in by_folder.items():
        plan.move_or_add(folder, members)
    for folder, members in by_folder.items():
        plan.allow_links(folder, members)
    plan.name_source(source)
    return Addresses(plan.addresses, tuple(plan.folders), tuple(plan.moved))


class _Plan:
    def __init__(self, known: Collection[str], folders: Sequence[ImageFolder], others: Collection[str]) -> None:
        self.addresses: dict[str, str] = {}
        self.folders = list(folders)
        self.moved: list[FoundFile] = []
        bare = {address for address in (*known, *others) if is_ambiguous_path(address)}
        of_id = Counter(image_id(address) for address in bare)
        merged = {address for address in bare if of_id[image_id(address)] > 1}
        self._bare = bare - merged
        self._known = {
            _composed(file_path(address)): address
            for address in sorted(known, key=is_ambiguous_path, reverse=True)
            if address not in merged
        }

    def keep(self, folder: str, files: Iterable[FoundFile]) -> None:
        """Give their addresses to the files of a folder that is read already."""
        places = sorted(self._places(folder), key=lambda place: not place[1])
        for file in files:
            paths = [(f"{beginning}/{file.name}", first) for beginning, first in places]
            known = (self._known.get(_composed(path)) for path, _ in paths)
            address = next(filter(None, known), None) or next((self._new(path) for path, first in paths if first), None)
            if address is not None:
                self.addresses[file.path] = address

    def move_or_add(self, folder: str, files: Iterable[FoundFile]) -> None:
        """Give addresses to the other files of a folder: the images moved there, or the folder is new."""
        rest = [file for file in files if file.path not in self.addresses]
        if not rest:
            return
        former, known = self._moved(rest)
        for beginning in former:
            self._read_also(beginning, folder)
        if not former:
            former = [self._new_beginning(folder)]
            self.folders.append(image_folder(Path(folder)).model_copy(update={"address": former[0]}))
        for file in rest:
            self.addresses[file.path] = known.get(file.path) or self._new(f"{former[0]}/{file.name}")
            self.moved += [file] if file.path in known else []

    def _moved(self, files: Sequence[FoundFile]) -> tuple[list[str], dict[str, str]]:
        """Return the former beginnings of the files' addresses, and the addresses by path. Each address is of one file:
        that `a.jpg` is new or known says nothing about `sub/a.jpg`."""
        beginnings: list[str] = []
        known: dict[str, str] = {}
        free = set(self._known.values()).difference(self.addresses.values())
        for beginning in self._former_beginnings(files):
            if len(known) == len(files):
                break
            found = {
                file.path: address
                for file in files
                if file.path not in known
                and (address := self._known.get(_composed(f"{beginning}/{file.name}"), "")) in free
            }
            if found:
                beginnings.append(beginning)
                known |= found
                free.difference_update(found.values())
        return beginnings, known

    def allow_links(self, folder: str, files: Iterable[FoundFile]) -> None:
        """Record into which folders the links in a folder lead."""
        targets = {posixpath.dirname(file.target) for file in files if file.target}
        if not targets:
            return
        for at, entry in enumerate(self.folders):
            if not any(_rest(folder, read.as_posix()) is not None for read in entry.folders):
                continue
            wanted = {*targets, *(link.as_posix() for link in entry.links)}
            roots = cover(wanted, MOST_LINK_FOLDERS)
            too_wide = [root for root in roots if root not in wanted and _rest(folder, root) is not None]
            if too_wide:
                raise ConfigError(
                    f"The images in {folder} are links to more than {MOST_LINK_FOLDERS} folders below {too_wide[0]}.",
                    hint="Give the folders that the links lead to by --images, or copy the images into one folder.",
                )
            self.folders[at] = entry.model_copy(update={"links": tuple(map(Path, roots))})

    def name_source(self, source: str) -> None:
        """Record which folders have images of the source."""
        for at, entry in enumerate(self.folders):
            if any(entry.below(address) is not None for address in self.addresses.values()):
                sources = tuple(dict.fromkeys((*entry.sources, source)))
                self.folders[at] = entry.model_copy(update={"sources": sources})

    def _new(self, path: str) -> str:
        """Return the address of a file that the source has not named yet; another manifest may have."""
        return path if path in self._bare else file_address(path)

    def _places(self, folder: str) -> list[tuple[str, bool]]:
        """Return the beginnings of addresses that are read from a folder, and whether it is read before others."""
        return [
            (entry.address.rstrip("/") + rest, number == 0)
            for entry in self.folders
            for number, read in enumerate(entry.folders)
            if (rest := _rest(folder, read.as_posix())) is not None
        ]

    def _former_beginnings(self, files: Iterable[FoundFile]) -> list[str]:
        """Return the beginnings of the source's addresses that end with the names of the files, the commonest first."""
        names = Counter(_composed(file.name) for file in files)
        deepest = max(name.count("/") for name in names) + 1
        votes: Counter[str] = Counter()
        for address in set(self._known.values()).difference(self.addresses.values()):
            parts = file_path(address).split("/")
            composed = [_composed(part) for part in parts]
            for depth in range(1, min(deepest, len(parts) - 1) + 1):
                if count := names["/".join(composed[-depth:])]:
                    votes["/".join(parts[:-depth])] += count
        return [beginning for beginning, _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))]

    def _read_also(self, beginning: str, folder: str) -> None:
        """Read the addresses that begin so from the folder first, and then from where they were."""
        before = [
            Path(read.as_posix() + rest)
            for entry in self.folders
            if (rest := _rest(beginning, entry.address)) is not None
            for read in entry.folders
        ]
        inside = [entry for entry in self.folders if _rest(beginning, entry.address) is not None]
        links = dict.fromkeys(link for entry in inside for link in entry.links)
        sources = dict.fromkeys(source for entry in inside if entry.address == beginning for source in entry.sources)
        places = dict.fromkeys([Path(folder), *before])
        self.folders = [entry for entry in self.folders if entry.address != beginning]
        self.folders.append(
            ImageFolder(
                address=beginning,
                folders=tuple(places),
                links=tuple(links),
                sources=tuple(sources),
                has_bare_paths=not inside or any(entry.has_bare_paths for entry in inside),
            )
        )

    def _new_beginning(self, folder: str) -> str:
        """Return a beginning for the addresses of a new folder: its path, unless images that moved away have that."""
        beginning, number = folder, 1
        while any(self._is_elsewhere(entry, beginning, folder) for entry in self.folders):
            number += 1
            beginning = f"{folder} ({number})"
        return beginning

    @staticmethod
    def _is_elsewhere(entry: ImageFolder, beginning: str, folder: str) -> bool:
        """Return whether addresses that begin so may be those of images that are read from another folder."""
        if _rest(beginning, entry.address) is not None:
            return True
        below = _rest(entry.address, beginning)
        return below is not None and entry.folders[0].as_posix() != folder + below


def _composed(text: str) -> str:
    """Return the text in NFC: a folder that moves to another system may get its names in another form."""
    return unicodedata.normalize("NFC", text)


def _rest(path: str, folder: str) -> str | None:
    """Return what follows the folder in a path, "" for the folder itself; None when the path is not in it."""
    folder = folder.rstrip("/")
    if path == folder:
        return ""
    return path[len(folder) :] if path.startswith(folder + "/") else None
