"""Odd cells of a manifest, on the command line: a bad row costs itself, a long cell no memory of its square."""

from __future__ import annotations

import csv
import resource
import subprocess
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.backend_process import BackendProcess
from tests.small_world import PATHS, image_bytes

CELLS = (
    *("²", "١٢", "9" * 5000, "1e400", "NaN", "-0", "a\0b", "\ufeffa", "a\nb", "a\rb", "a\u2028b", "\x1b[2J", "ö" * 150),
    *("x" * 100_000, "ab " * 33_000, "../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "C:\\a.jpg", "~/a"),
    *("http://127.0.0.1:1/a.jpg", "http://[::1/a.jpg", "http://a:99999999/a", f"http://{'a' * 70}.xn--/a", "s3://"),
    *(
        "=cmd()",
        'a"b',
        " ",
        "",
        ".",
        "..",
        " › ",
        " / ",
        "\u202e\u2066",
        "\uffff",
        "\ufffd",
        "%00%ff",
        "{x}%s",
        "\u200d",
    ),
    *("9999-12-31T23:59:60+24:00", f"http://h.test/{'a' * 5000}", f"{'x' * 260}.jpg"),
)


def write(folder: Path, column: str, cells: tuple[str, ...]) -> Path:
    """Write a manifest whose first row is good and whose others have a cell each."""
    names = [f"{number:03d}.jpg" for number in range(len(cells) + 1)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(image_bytes(PATHS[0], number))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, ["file", "level1", "level2", "product", "annotator"])
        rows.writeheader()
        good = {"level1": "Warm", "level2": "Red", "product": "p", "annotator": "anna"}
        rows.writerow({"file": names[0], **good})
        rows.writerows({"file": name, **good, column: cell} for name, cell in zip(names[1:], cells, strict=True))
    return folder / "manifest.csv"


@pytest.mark.parametrize("column", ["file", "level1", "level2", "product", "annotator"])
def test_a_cell_costs_at_most_its_row(run: Run, services: Services, tmp_path: Path, column: str) -> None:
    services.settings.__dict__["min_annotators"] = 1
    manifest = write(tmp_path, column, CELLS)
    found = run_json(run, "import", manifest, "--project", "colours", "--skip-bad-rows")
    assert found["annotations"] + found["left_out"] >= len(CELLS)
    documents = list(services.catalog.documents("colours"))
    assert any((document.uri_orig or document.projects["colours"].uri).endswith("000.jpg") for document in documents)
    code, _, err = run("status", "--project", "colours")
    assert (code, "Traceback" in err) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize("column", ["level2", "annotator"])
def test_a_long_name_takes_no_memory_of_its_square(tmp_path: Path, column: str) -> None:
    """Similar names are asked about; the comparison of 60,000 letters took 3.6 GB."""
    letters = "".join(chr(0x4E00 + number % 20_000) for number in range(60_000))
    manifest = write(tmp_path, column, (letters, f"{letters}!"))
    backend = BackendProcess(tmp_path / "home")
    done = subprocess.run(
        [*backend.program, "import", str(manifest), "--project", "colours"],
        env=backend.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
    )
    assert done.returncode == 0, done.stderr
