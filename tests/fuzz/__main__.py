"""`python -m tests.fuzz --requests 100000`: fuzz a server, print what was found, and end with 1 when anything was."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.backend_process import BackendProcess
from tests.fuzz.run import fuzz
from tests.homes import make_trained_home


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="empty folder for the server's state (default: a temporary one)")
    parser.add_argument("--output", type=Path, help="file of the report, besides standard output")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="taxonomist-fuzz-"))
    services = make_trained_home(folder)
    with BackendProcess(services.settings.home) as backend:
        report = fuzz(services, backend, options.requests, options.seed)
    print(report.to_text())  # noqa: T201
    if options.output:
        options.output.write_text(report.to_text(), encoding="utf-8")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
