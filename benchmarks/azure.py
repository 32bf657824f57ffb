"""Import, label query and fetch on Azure's emulators beside plain SDK loops: `python -m benchmarks.azure --help`."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import emulators
from benchmarks import clouds
from benchmarks.measure import Spread, machine
from benchmarks.report import Row, command_line, to_markdown, write
from benchmarks.run import RESULTS, Numbers, Rounds, say

PACKAGES = ("azure-cosmos", "azure-storage-blob", "azure-core", "aiohttp", "pillow", "numpy")
EXAMPLES = """examples:
  python -m benchmarks.azure                       15,000 documents and images, three rounds
  python -m benchmarks.azure --documents 1500
  python -m benchmarks.azure --quick --output /tmp/quick   a test of the benchmark; its numbers mean nothing
"""
NOTES = """
Medians of all rounds, in brackets the smallest and the largest value. *Times better* is the ratio of the medians,
above 1 where ours is better. The sides take turns on the same emulators (Azurite and @vercel/cosmosdb-server, in
memory, over loopback), which share the cores with them. There is no distance to the service here and no limit of
requests: parallel requests gain less than in Azure, and each additional request costs less time.

- **Ours** is what the commands call: `taxonomist import`, the catalogue's `find`, `taxonomist data fetch`.
- **The peer** is the loop that one writes by hand with the synchronous SDK: `upsert_item` for each task of
  `json.load`; `query_items` with the user-defined function; `download_blob().readall()`, Pillow's decoding and
  `resize` for each image into an array. It keeps no journal, decides nothing, overwrites what others wrote, and
  starts from the beginning after an interruption.
- *The whole import* reads the file twice as a stream, commits each annotation to the journal, decides each label by
  agreement, and writes the catalogue, with an ETag guarding each document. *Documents written* is that last part alone.
- The query asks for a label to include and one to exclude, two annotators, not blurred; each side has run it once
  before. Ours returns validated documents in order of ids, page by page; the emulator runs the whole query again for
  each page, which Azure does not.
- The fetch keeps a copy of each file with its ETag and hash, and leaves out the images that the catalogue marks as
  private. *Again* is a run that finds all images in the folder; the loop would read all again.
- *Others* is the share of all cores that other processes than the emulators and ours took during a round. A round in
  which it was large was measured again, and the least disturbed one is kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.azure",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--documents", type=int, default=15_000, help="documents, and images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=160, help="side of fetched images in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    parser.add_argument("--name", help="name of the result's files (default: the date and azure)")
    parser.add_argument("--idle-timeout", type=float, default=60, help="seconds to wait for an idle machine, each time")
    parser.add_argument(
        "--patience", dest="idle_timeout", type=float, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    options = parser.parse_args(arguments)
    documents, size, count = (60, 32, 1) if options.quick else (options.documents, options.size, options.rounds)
    logging.disable()  # the synchronous client logs much when it is closed
    with (
        tempfile.TemporaryDirectory(prefix="taxonomist-benchmark-") as folder,
        clouds.make_cloud(Path(folder), documents, size) as cloud,
    ):
        rounds = Rounds(
            idle_timeout_s=0 if options.quick else options.idle_timeout,
            repeats=0 if options.quick else 2,
            beside=(cloud.blob.process.pid, cloud.cosmos.process.pid),
        )
        _measure(cloud, rounds, count)
    computer, others = machine(), Spread.of(rounds.others)
    packages = {name: version(name) for name in PACKAGES}
    packages |= emulators.PACKAGES
    about = {
        "command": command_line(parser, options),
        "machine": {**computer, "packages": packages},
        "scale": {"documents": documents, "size": size, "rounds": count},
        "others_median": others.median,
        "others_worst": others.high,
    }
    rows = _rows(rounds, documents, size)
    print(to_markdown(rows, about, NOTES))
    for path in write(options.output, options.name or f"{str(computer['date'])[:10]}-azure", rows, about, NOTES):
        say(f"written: {path}")
    return 0


SIDES: dict[str, tuple[Callable[[clouds.Cloud], Numbers], Callable[[clouds.Cloud], Numbers]]] = {
    "import": (clouds.import_ours, clouds.import_plain),
    "write": (clouds.write_ours, clouds.write_plain),
    "query": (clouds.query_ours, clouds.query_plain),
    "all": (clouds.all_ours, clouds.all_plain),
    "fetch": (clouds.fetch_ours, clouds.fetch_plain),
}


def _measure(cloud: clouds.Cloud, rounds: Rounds, count: int) -> None:
    for number in range(count):
        say(f"round {number + 1} of {count}")
        for name, (ours, peer) in SIDES.items():
            sides = [(f"{name} ours", ours), (f"{name} peer", peer)]
            # The order alternates, so that slow changes of the machine affect both sides alike.
            for key, side in sides if number % 2 == 0 else reversed(sides):
                numbers = rounds.measure(key, partial(side, cloud))
                say("    " + ", ".join(f"{unit} {value:.4g}" for unit, value in numbers.items()))
    for name in ("query", "all"):
        found = {*rounds.of(f"{name} ours", "found"), *rounds.of(f"{name} peer", "found")}
        assert len(found) == 1, f"The sides found different documents: {found}"


def _rows(rounds: Rounds, documents: int, size: int) -> list[Row]:
    def row(title: str, what: str, unit: str, name: str) -> Row:
        ours, peer = (rounds.of(f"{name} {side}", "rate") for side in ("ours", "peer"))
        return Row(title, what, unit, ours, peer, more_is_better=True)

    found = int(rounds.of("query ours", "found")[0])
    importing = f"Import: an export of {documents:,} tasks, two annotations each"
    asking = f"Label query: {documents:,} documents"
    fetching = f"Fetch: {documents:,} JPEGs of 300 to 700 pixels, to {size} pixels"
    again = rounds.of("fetch ours", "again")
    return [
        row(importing, "the whole import", "tasks/s", "import"),
        row(importing, "documents written", "documents/s", "write"),
        row(asking, f"by labels, {found:,} found", "documents searched/s", "query"),
        row(asking, "all documents", "documents/s", "all"),
        row(fetching, "into an empty folder", "images/s", "fetch"),
        Row(fetching, "again", "images/s", again),
    ]


if __name__ == "__main__":
    sys.exit(main())
