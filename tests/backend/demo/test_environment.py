"""The virtual environments that the demo and the tests make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from taxonomist.backend.demo.environment import make_environment
from taxonomist.taxonomy.errors import LabelStudioError


@pytest.mark.slow
def test_made_once_and_mended(tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / "venv"
    lines: list[str] = []
    with pytest.raises(LabelStudioError, match=r"(?s)Thing could not be installed.*no-such-package-here.*resumes"):
        make_environment(folder, [["--no-index", "no-such-package-here"]], lines.append, title="Thing")
    assert lines

    python = make_environment(folder, [], lines.append, title="Thing")  # continues with the packages that are installed
    assert subprocess.run([python, "-c", ""], check=True).returncode == 0

    lines.clear()
    assert make_environment(folder, [], lines.append, title="Thing") == python
    assert lines == []  # used as it is
