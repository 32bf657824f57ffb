"""Import of a Label Studio export: annotations per second and memory, against the parsing of its JSON alone.

    python -m benchmarks.exports --annotations 100000

The export has tasks with two annotations. Each measurement runs in a process of its own; `ratio` compares the import
with ijson, which reads the same file once as a stream of tasks and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """<View><Image name="image" value="$image"/><Taxonomy name="colour" toName="image">
  <Choice value="Warm"><Choice value="Red"/><Choice value="Yellow"/></Choice>
  <Choice value="Cold"><Choice value="Blue"/><Choice value="Green"/></Choice></Taxonomy></View>"""
PATHS = (["Warm", "Red"], ["Warm", "Yellow"], ["Cold", "Blue"], ["Cold", "Green"])
DAY = "2026-01-05T10:00:00Z"


def write_export(file: Path, annotations: int) -> None:
    """Write an export with that many annotations, two for each task."""
    with file.open("w", encoding="utf-8") as out:
        for number in range(annotations // 2):
            region = {"id": "r", "from_name": "colour", "to_name": "image", "type": "taxonomy"}
            result = [{**region, "value": {"taxonomy": [PATHS[number % len(PATHS)]]}}]
            given = [
                {"id": 2 * number + n, "completed_by": n, "created_at": DAY, "updated_at": DAY, "result": result}
                for n in (1, 2)
            ]
            task = {"id": number, "project": 7, "created_at": DAY, "data": {"image": f"/data/upload/7/{number}.jpg"}}
            out.write("[" if number == 0 else ",\n")
            json.dump({**task, "annotations": given}, out)
        out.write("]")


def measure(what: str, export: Path, home: Path) -> None:
    """Print the seconds of one measurement and the peak memory of this process in MB."""
    if what == "ijson":
        import ijson

        start = time.perf_counter()
        with export.open("rb") as file:
            count = sum(1 for _ in ijson.items(file, "item"))
        assert count
    else:
        from taxonomist.backend.labelling.label_studio_export import import_export
        from taxonomist.backend.services import Services
        from taxonomist.backend.settings import Settings

        services = Services(Settings(home=home))
        services.projects.update("7", label_config=CONFIG)
        start = time.perf_counter()
        done = import_export(services, export)
        assert done.labelled == done.images > 0
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    """Measure the import and its peer, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "EXPORT", "HOME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), Path(options.measure[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for count in (options.annotations // 10, options.annotations):
            export = Path(folder) / f"{count}.json"
            write_export(export, count)
            for what in ("ijson", "import"):
                program = [sys.executable, "-m", "benchmarks.exports", "--measure", what, str(export)]
                done = subprocess.run(
                    [*program, f"{folder}/{what}-{count}"], check=True, stdout=subprocess.PIPE, text=True
                )
                found[what, count] = json.loads(done.stdout)
                seconds, megabytes = found[what, count].values()
                print(
                    f"{what:7} {count:8} annotations {count / seconds:9.0f} per second {megabytes:7.0f} MB", flush=True
                )
    slower = found["import", options.annotations]["seconds"] / found["ijson", options.annotations]["seconds"]
    print(f"ratio: the import takes {slower:.1f} times as long as ijson alone")


if __name__ == "__main__":
    main()
