"""`python -m tests.soak --minutes 10`: run a soak, print what it did, and end with 1 when something was lost."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak, to_text


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--every", type=float, default=2, help="seconds between two kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="empty folder for its files (default: a temporary one)")
    parser.add_argument("--output", type=Path, help="file of the report, besides standard output")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="taxonomist-soak-"))
    report = soak(folder, 60 * options.minutes, every=options.every, seed=options.seed)
    print(to_text(report))  # noqa: T201
    if options.output:
        options.output.write_text(to_text(report), encoding="utf-8")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
