"""Where the files that a manifest names are: in its folders, under any spelling of the name that looks the same."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import fuzz, process

from taxonomist.taxonomy.names import clean_name

_MOST_COMPARISONS = 50  # missing files for which the nearest name is looked up; each compares a whole folder
_SIMILAR = 75


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file at `name` below `folder`, with `/`. `target` is the real path if a link leads out of the folder."""

    folder: str
    name: str
    target: str | None = None

    @property
    def path(self) -> str:
        """The path in the folder, with its links."""
        return posixpath.join(self.folder, self.name)


class ImageFinder:
    """Finds files by the names in a manifest: first in `folders`, which may not both have it, then in `others`.

    The folders are absolute, without links. Each folder is read at most once.
    """

    def __init__(self, folders: Sequence[Path], others: Sequence[Path] = ()) -> None:
        self._folders = [folder.as_posix() for folder in folders]
        self._others = [folder.as_posix() for folder in others if folder not in folders]
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._real: dict[str, str] = {}
        self._comparisons = 0

    def find(self, name: str) -> FoundFile | str:
        """Return the file, or the problem with the name in words."""
        places = [self._folders, self._others]
        problems: list[str] = []
        for folders in places:
            found = []
            for folder in folders:
                match self._find_in(folder, name):
                    case FoundFile() as file:
                        found.append(file)
                    case str() as problem:
                        problems.append(problem)
            if len(found) > 1 and len({os.path.realpath(file.path) for file in found}) > 1:
                return f"{name!r} is in {found[0].folder} and in {found[1].folder}"
            if found:
                return found[0]
        return problems[0] if problems else f"no file {name!r} in {' or '.join(self._folders)}{self._nearest(name)}"

    def _find_in(self, folder: str, name: str) -> FoundFile | str | None:
        for spelling in dict.fromkeys((name, name.strip(), name.strip().replace("\\", "/"))):
            relative = _inside(folder, spelling)
            if relative is None:
                continue
            if (file := self._at(folder, relative)) is not None:
                return file
            if (actual := self._same_spelling(folder, relative)) is not None:
                return actual if isinstance(actual, FoundFile) else f"{name!r} may be {actual}"
        if all(_inside(folder, spelling) is None for spelling in (name, name.replace("\\", "/"))):
            return f"{name!r} is not inside {folder}"
        return None

    def _at(self, folder: str, relative: str) -> FoundFile | str | None:
        path = posixpath.join(folder, relative)
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            return None
        parent = self._real_folder(posixpath.dirname(path))
        if stat.S_ISREG(mode):
            real = posixpath.join(parent, posixpath.basename(path))
        elif stat.S_ISLNK(mode):
            real = os.path.realpath(path)
            if not Path(real).exists():
                return f"{relative!r} is a link to {real}, which is not there; fetch it first (dvc pull, git annex get)"
            if not Path(real).is_file():
                return f"{relative!r} is not a file"
        else:
            return f"{relative!r} is not a file"
        return FoundFile(folder, relative, None if _is_below(real, folder) else real)

    def _same_spelling(self, folder: str, relative: str) -> FoundFile | str | None:
        """Return the file whose path looks the same; the two candidates in words where several do."""
        matches = [""]
        for part in relative.split("/"):
            matches = [
                posixpath.join(match, actual)
                for match in matches
                for actual in self._listing(posixpath.join(folder, match)).get(clean_name(part), ())
            ]
        if len(matches) > 1:
            return f"{matches[0]!r} or {matches[1]!r}, which look the same"
        found = self._at(folder, matches[0]) if matches else None
        return found if isinstance(found, FoundFile) else None

    def _nearest(self, name: str) -> str:
        """Return a question for the nearest name in the folders, "" where there is none."""
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            return ""
        wanted = clean_name(name.replace("\\", "/"))
        best: tuple[float, str] = (0.0, "")
        for folder in [*self._folders, *self._others]:
            for below in dict.fromkeys((posixpath.dirname(wanted), "")):
                listing = [name for names in self._listing(posixpath.join(folder, below)).values() for name in names]
                near = process.extractOne(
                    posixpath.basename(wanted),
                    listing,
                    scorer=fuzz.ratio,
                    processor=str.casefold,
                    score_cutoff=_SIMILAR,
                )
                if near and near[1] > best[0]:
                    best = (near[1], posixpath.join(below, near[0]))
        return f"; the nearest name is {best[1]!r}" if best[1] else ""

    def _listing(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their clean form; empty where there is no such folder."""
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for name in sorted(entry.name for entry in Path(folder).iterdir()):
                    listing.setdefault(clean_name(name), []).append(name)
            except (OSError, ValueError):
                pass
            self._listings[folder] = listing
        return self._listings[folder]

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]


def cover(folders: Iterable[str], most: int) -> tuple[str, ...]:
    """Return at most `most` folders that hold all these folders, as deep as possible."""
    roots = set(folders)
    while len(roots) > most:
        deepest = max(root.count("/") for root in roots)
        roots = {posixpath.dirname(root) if root.count("/") == deepest else root for root in roots}
    return tuple(sorted(root for root in roots if not any(_is_below(root, other) for other in roots if other != root)))


def _inside(folder: str, name: str) -> str | None:
    """Return the path below the folder, without `.` and `..`; None when it is not inside."""
    path = posixpath.normpath(posixpath.join(folder, name))
    return path[len(folder.rstrip("/")) + 1 :] if _is_below(path, folder) else None


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
