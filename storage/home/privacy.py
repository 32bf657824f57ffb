"""Keeps a home for its owner alone: folders have the mode 0700, files 0600.

Models, labels and tokens are in it. A home that several users share, such as a volume that containers with other users
mount, stays as it is.
"""

import logging
import os
import stat
from pathlib import Path

from taxonomist.storage.home.version_file import home_version
from taxonomist.taxonomy.errors import StorageError

__all__ = ["make_private", "open_because", "repair_modes"]

log = logging.getLogger(__name__)

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private(home: Path) -> None:
    """Let only the owner use the folder, and what this process makes from now on; log a warning where it cannot be.

    Call it where a process starts: it sets the umask. Files that are there already are left to `repair_modes`.
    """
    reason = _shared_because(home)
    if reason is None:
        os.umask(_OTHERS)
        reason = _closed(home)
    if reason is not None:
        log.warning("other users may be able to read the home folder %s: %s", home, reason)


def repair_modes(home: Path) -> int:
    """Take the rights of other users from all files of a home, and return from how many. Links are not followed."""
    if not _exists(home) or _shared_because(home) is not None:
        return 0
    failed: list[str] = []
    changed = 0
    for folder, _, files, handle in os.fwalk(home):
        for name in [*files, "."]:
            try:
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode) or not mode & _OTHERS:
                    continue
                os.chmod(name, stat.S_IMODE(mode) & ~_OTHERS, dir_fd=handle)
                changed += 1
            except FileNotFoundError:  # it was temporary
                continue
            except OSError as error:
                failed.append(f"{Path(folder) / name} ({error.strerror})")
    log.debug("looked at the modes of all files of %s; other users had rights on %d", home, changed)
    if failed:
        log.warning("other users may be able to read %s, and %d more", failed[0], len(failed) - 1)
    return changed


def open_because(home: Path) -> str | None:
    """Return why other users may be able to read a home, None for one that is private."""
    if not _exists(home) or not stat.S_IMODE(home.stat().st_mode) & _OTHERS:
        return None
    return _shared_because(home) or f"its mode is {stat.S_IMODE(home.stat().st_mode):04o}"


def _exists(home: Path) -> bool:
    """Return whether there is a home, on a system that has such modes, unlike Windows."""
    return hasattr(os, "geteuid") and home.is_dir()


def _shared_because(home: Path) -> str | None:
    """Return why a home is not made private, None for one that is its user's own, or not there yet."""
    if not _exists(home):
        return None
    user = os.geteuid()
    try:
        about = home.stat()
        if about.st_uid != user:
            return f"it belongs to the user {about.st_uid}, and this is {user}"
        if about.st_mode & stat.S_ISGID:
            return "its setgid bit says that a group shares it"
        if about.st_mode & stat.S_IRWXG and about.st_gid != os.getegid():
            return f"it was given to the group {about.st_gid}"
        with os.scandir(home) as found:
            entries = list(found)
            if entries and home_version(home) is None and not (home / "secret").exists():
                return "it has files, and none of them is ours: TAXONOMIST_HOME may name the wrong folder"
            for entry in entries:
                if (owner := entry.stat(follow_symlinks=False).st_uid) != user:
                    return f"{entry.name} in it belongs to the user {owner}"
    except (OSError, StorageError):  # it is not there yet, or the first use of the home says what is wrong
        return None
    return None


def _closed(path: Path) -> str | None:
    """Take the rights of other users from a folder; return why they still have some, as on network drives."""
    if not _exists(path):
        return None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            path.chmod(mode & ~_OTHERS)
        left = stat.S_IMODE(path.stat().st_mode) & _OTHERS
    except OSError as error:
        return f"its mode cannot be changed ({error.strerror})"
    return f"its file system keeps the mode {mode:04o}" if left else None
