"""Does the promise of precision hold on products that no training saw? `python -m benchmarks.promise --help`.

Each split divides a catalogue's products. A head learns from labelled images of some and suggests paths for all images
of the others. The promise: with 80 % confidence, the target of precision holds. It is compared with today's rule, with
the most likely path and with a fixed threshold. As in a training, all images of the products that are not tested teach
a space without labels, in which the head learns where its labels are likelier.

Finished splits are appended to a file in --work, and the next call goes on from there. Use a new folder after a change
of the code that is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

from benchmarks.measure import machine
from benchmarks.promise_catalogue import (
    LITE0,
    STARTER,
    TREES,
    digest,
    embeddings_of,
    read_catalogue,
    read_embeddings,
    read_manifest,
)
from benchmarks.promise_cells import write_heads, write_rules
from benchmarks.promise_rules import RULES, run_rules
from benchmarks.run import RESULTS, say
from taxonomist.taxonomy.errors import TaxonomistError

Job = dict[str, Any]
EXAMPLES = """examples:
  python -m benchmarks.promise --catalogue furniture --work /tmp/promise
  python -m benchmarks.promise --catalogue furniture --work /tmp/promise --heads
  python -m benchmarks.promise --catalogue furniture --work /tmp/promise --embeddings lite0=lite0.npz --eyes lite0 \\
      --tree shapes --labels 400 1000 --splits 4      a first look
  python -m benchmarks.promise --catalogue furniture --work /tmp/quick --output /tmp/quick --quick
                                                  a test of the benchmark; its numbers mean nothing
"""
_QUICK = {"labels": [40, 80], "splits": 2, "today_splits": 1, "head_splits": 1}
_NICENESS = 10
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    options.name = options.name or ("heads" if options.heads else "promise")
    if options.quick:
        vars(options).update(_QUICK)
    try:
        _run(options)
    except TaxonomistError as error:
        say(f"error: {error}")
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    read_manifest(options.catalogue)
    options.work.mkdir(parents=True, exist_ok=True)
    files = {eyes: embeddings_of(eyes, options.catalogue, options.embeddings, options.work) for eyes in options.eyes}
    jobs = list(_jobs(options, {eyes: digest(options.catalogue, path) for eyes, path in files.items()}))
    results = _results(jobs, options, files)
    about = {"command": _command(options), "machine": machine(), "seed": options.seed, "splits": options.splits}
    if options.heads:
        table, made = write_heads(options.output, options.name, results, {**about, "splits": options.head_splits})
    else:
        table, made = write_rules(options.output, options.name, results, about, options.rules)
    print(table)
    for path in made:
        say(f"written: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.promise",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--catalogue",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="has images/ and manifest.csv with the columns\nfile, level1, level2, product",
    )
    add("--work", type=Path, required=True, metavar="FOLDER", help="where finished splits and embeddings are kept")
    add("--eyes", nargs="+", default=[LITE0, STARTER], metavar="NAME", help="names of embeddings (default: both)")
    add(
        "--embeddings",
        nargs="+",
        type=_pair,
        default={},
        action=_Pairs,
        metavar="NAME=FILE.npz",
        help='ready embeddings: array "x" in the order of the manifest\n(default: computed once)',
    )
    add("--tree", nargs="+", choices=TREES, default=list(TREES), help="default: both")
    add("--labels", nargs="+", type=_positive, default=[100, 300, 400, 1000, 3000], help="default: %(default)s")
    add("--targets", nargs="+", type=float, default=[0.8, 0.9], help="default: %(default)s")
    add("--rules", nargs="+", choices=RULES, default=list(RULES), help="default: all")
    add("--splits", type=_positive, default=200, help="default: %(default)s")
    add(
        "--today-splits",
        type=_positive,
        default=20,
        help="of today's rule, whose head takes seconds (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=2000,
        help="of the first split (default: %(default)s); the rule was chosen on some of those below 2000",
    )
    add("--test-share", type=float, default=0.333, help="of the products (default: %(default)s)")
    add("--heads", action="store_true", help="the table of heads in place of that of rules")
    add("--head-splits", type=_positive, default=10, help="of the table of heads (default: %(default)s)")
    add("--jobs", type=_positive, default=1, help="processes with one thread each (default: %(default)s)")
    add("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    add("--output", type=Path, default=RESULTS, metavar="FOLDER", help="of the result (default: %(default)s)")
    add("--name", help='of the result\'s files (default: "promise", with --heads "heads")')
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _pair(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE.npz")
    return name, Path(file)


class _Pairs(argparse.Action):
    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:  # noqa: ARG002
        setattr(namespace, self.dest, dict(values))


def _command(options: argparse.Namespace) -> str:
    """Return the command without what differs from machine to machine."""
    defaults = vars(_parser().parse_args(["--catalogue", "", "--work", ""]))
    hidden = {"catalogue", "work", "embeddings", "jobs", "output", "name", *(_QUICK if options.quick else ())}
    parts = ["python -m benchmarks.promise --catalogue CATALOGUE --work WORK"]
    for name, value in vars(options).items():
        if value != defaults[name] and name not in hidden:
            values = " ".join(map(str, value)) if isinstance(value, list) else value
            parts.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {values}"))
    return " ".join(parts)


def _jobs(options: argparse.Namespace, data: Mapping[str, str]) -> Iterator[Job]:
    """Yield all jobs, split by split, so that an unfinished run has all cells."""
    splits = {"heads": options.head_splits} if options.heads else {"lda": options.splits, "today": options.today_splits}
    if "today" not in options.rules:
        splits.pop("today", None)
    if options.rules == ["today"]:
        splits.pop("lda", None)
    for number, tree, eyes, labels, part in product(
        range(max(splits.values())), options.tree, options.eyes, options.labels, splits
    ):
        if number < splits[part]:
            yield {
                "part": part,
                "tree": tree,
                "eyes": eyes,
                "labels": labels,
                "seed": options.seed + number,
                "targets": [] if part == "heads" else options.targets,
                "test_share": options.test_share,
                "data": data[eyes],
            }


def _results(jobs: Sequence[Job], options: argparse.Namespace, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the finished jobs with their rows; run those that are in the file of no former call."""
    path = options.work / "splits.jsonl"
    done = {_key(line["job"]): line for line in _lines(path)}
    missing = [job for job in jobs if _key(job) not in done]
    say(f"{len(jobs) - len(missing)} of {len(jobs)} were finished before")
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read when the processes load numpy
    processes = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(options.jobs, processes, initializer=os.nice, initargs=(_NICENESS,)) as pool,
        path.open("a", encoding="utf-8") as file,
    ):
        try:
            groups = [list(group) for _, group in groupby(missing, _space)]
            futures = [pool.submit(run_jobs, group, options.catalogue, files[group[0]["eyes"]]) for group in groups]
            for number, future in enumerate(as_completed(futures), 1):
                for line in future.result():
                    file.write(json.dumps(line) + "\n")
                    done[_key(line["job"])] = line
                file.flush()
                if number % 5 == 0:
                    say(f"{number} of {len(groups)}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [done[_key(job)] for job in jobs]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the finished jobs in the file; a last line that was cut off is removed."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    for line in whole.splitlines():
        yield json.loads(line)


def _key(job: Job) -> str:
    return json.dumps(job, sort_keys=True)


def _space(job: Job) -> tuple[Any, ...]:
    """Return what jobs have in common that share a space, which takes longer to learn than a head."""
    return job["tree"], job["eyes"], job["seed"]


def run_jobs(jobs: Sequence[Job], folder: Path, embeddings: Path) -> list[dict[str, Any]]:
    """Return what `run_job` returns for each."""
    return [run_job(job, folder, embeddings) for job in jobs]


def run_job(job: Job, folder: Path, embeddings: Path) -> dict[str, Any]:
    """Return the job with its rows."""
    catalogue = _catalogue(folder, job["tree"], embeddings)
    split = {name: job[name] for name in ("labels", "test_share", "seed")}
    if job["part"] == "heads":
        from benchmarks.promise_heads import run_heads

        return {"job": job, **run_heads(catalogue, **split)}
    return {"job": job, **run_rules(catalogue, part=job["part"], targets=job["targets"], **split)}


@lru_cache(maxsize=4)
def _catalogue(folder: Path, tree: str, embeddings: Path) -> Any:
    return read_catalogue(folder, tree, read_embeddings(embeddings))


if __name__ == "__main__":
    sys.exit(main())
