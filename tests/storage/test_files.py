"""Atomic writes, and what a version number in a file does."""

import errno
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import BaseModel

from taxonomist.storage.files import disk_error, write_atomically, write_if_absent
from taxonomist.storage.json_files import read_model, write_model
from taxonomist.taxonomy.errors import BadRequestError, DamagedError


class Example(BaseModel, frozen=True):
    name: str


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_its_owners_alone_unless_its_mode_is_given(tmp_path: Path) -> None:
    write_atomically(tmp_path / "secret", b"a")
    write_atomically(tmp_path / "open", b"a", mode=0o644)
    assert (mode(tmp_path / "secret"), mode(tmp_path / "open")) == (0o600, 0o644)


def test_a_failed_write_leaves_the_old_bytes_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(path, b"a")
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_that_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.json"
    with pytest.raises(FileNotFoundError) as raised:
        write_atomically(path, b"a")
    assert raised.value.filename == str(path)


def test_of_a_copy_without_room_the_file_that_is_written_is_named() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "from", None, "to")
    assert str(disk_error(error)).startswith("No room to write to (No space left on device).")


def test_of_many_writers_at_once_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    def write(number: int) -> bytes:
        write_if_absent(path, b"%d" % number)
        return path.read_bytes()

    with ThreadPoolExecutor(16) as pool:
        seen = set(pool.map(write, range(64)))
    assert len(seen) == 1
    assert (list(tmp_path.iterdir()), mode(path)) == ([path], 0o600)


def test_a_model_comes_back_and_its_file_names_its_format(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_model(path, Example, hint="") is None
    write_model(path, Example(name="Müller"))
    assert read_model(path, Example, hint="") == Example(name="Müller")
    assert (json.loads(path.read_bytes()), mode(path)) == ({"format": 1, "name": "Müller"}, 0o600)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (5, "a.json would not be readable (name: Input should be a valid string"),
        (None, "a.json would not be readable (name: Input should be a valid string"),
        ("\ud800", "a.json cannot be written ("),
        (float("nan"), "a.json would not be readable (name: "),
        (object(), "a.json cannot be written ("),
    ],
    ids=["number", "null", "half character", "no number", "object"],
)
def test_a_model_that_could_not_be_read_back_leaves_the_file(tmp_path: Path, name: object, reason: str) -> None:
    path = tmp_path / "a.json"
    write_model(path, Example(name="Müller"))
    with pytest.raises(BadRequestError) as raised:
        write_model(path, Example(name="Müller").model_copy(update={"name": name}))
    assert str(raised.value).startswith(reason)
    assert "it stays as it is" in str(raised.value)
    assert read_model(path, Example, hint="") == Example(name="Müller")


def test_a_file_of_an_early_release_has_no_format(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "x"}')
    assert read_model(tmp_path / "a.json", Example, hint="") == Example(name="x")


@pytest.mark.parametrize("found", ["2", "0", '"1"', "null", "[]"])
def test_an_unknown_format_is_refused(tmp_path: Path, found: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"format": {found}, "name": "x"}}')
    with pytest.raises(DamagedError, match=r"a\.json has format .*; this release reads formats up to 1\. Install"):
        read_model(tmp_path / "a.json", Example, hint="")


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "is not JSON"), ("[]", "content"), ('{"name": 1}', "name"), ("{}", "name: Field req")]
)
def test_a_damaged_file_is_named_with_its_field(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DamagedError, match=rf"a\.json.*{reason}.* Delete it\."):
        read_model(tmp_path / "a.json", Example, hint="Delete it.")
