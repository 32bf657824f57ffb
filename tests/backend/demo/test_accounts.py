"""The secrets that the demo makes."""

from __future__ import annotations

from pathlib import Path

from taxonomist.backend.demo.accounts import server_password


def test_the_password_of_the_server_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "home" / "backend-password"
    password = server_password(file)
    assert len(password) == 16
    assert file.stat().st_mode & 0o777 == 0o600
    assert server_password(file) == password != server_password(tmp_path / "another")
