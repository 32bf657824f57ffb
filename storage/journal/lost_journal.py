"""A journal that is damaged or gone: nothing is made in its place until a person says so."""

from pathlib import Path

from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import DamagedError

__all__ = ["check_new_journal", "hint_of_damage"]

_THEN = (
    "Then a new one begins: the labels stay as they are, passes over Label Studio bring its annotations back, and "
    "`taxonomist status` names what is to be imported again."
)


def hint_of_damage(journal: Path) -> str:
    """Return what to do with a damaged journal."""
    return (
        f"Stop the server and put back a copy of it; without one, move it aside together with its -wal and -shm files: "
        f'mv "{journal}" "{journal}.damaged". {_THEN}'
    )


def check_new_journal(journal: Path) -> None:
    """Raise `DamagedError` where a journal is gone, which its labels show, unless a damaged one lies beside it.

    Raises `StorageError` when the folder cannot be read.
    """
    with storage_errors(journal):
        if any(journal.parent.glob(f"{journal.name}.damaged*")) or not _was_used(journal.parent / "projects"):
            return
    raise DamagedError(
        f"{journal} is gone.", hint=f'Put back a copy of it; without one: touch "{journal}.damaged". {_THEN}'
    )


def _was_used(records: Path) -> bool:
    """Return whether labels of a project were decided: its record has the rule, by which they are from a journal."""
    return any(b'"decided_with": "' in path.read_bytes() for path in records.glob("*.json"))
