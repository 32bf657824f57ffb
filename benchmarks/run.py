"""Measure the product beside a plain backend, print the table and write it: `python -m benchmarks.run --help`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.bombs import bombs
from benchmarks.measure import Spread, machine, wait_until_idle, watched
from benchmarks.pressure import pressure
from benchmarks.report import Row, to_markdown, write
from benchmarks.servers import Side
from benchmarks.world import QUICK, Scale, World, make_world

RESULTS = Path(__file__).parent / "results"
NAMES = ("latency", "throughput", "webhooks", "pressure", "bombs", "head", "start")
TOO_MUCH = 0.15  # of the cores, taken by others: the round is measured again
KEPT = "peer with its model kept"
Numbers = dict[str, float]
EXAMPLES = """examples:
  python -m benchmarks.run                         everything, about a quarter of an hour
  python -m benchmarks.run --only webhooks --only start
  python -m benchmarks.run --quick --output /tmp/quick   a test of the benchmark; its numbers mean nothing
"""


@dataclass
class Rounds:
    """The numbers of each side, a dict for each round, and the share of the cores that others took in each."""

    idle_timeout_s: float  # seconds to wait for the machine to be idle, before each measurement
    repeats: int  # of a disturbed measurement
    beside: tuple[int, ...] = ()  # ids of processes that take part and do not count as others
    others: list[float] = field(default_factory=list)
    values: dict[str, list[Numbers]] = field(default_factory=dict)

    def measure(self, key: str, call: Callable[[], Numbers]) -> Numbers:
        """Measure, and repeat a disturbed measurement; keep and return the least disturbed numbers."""
        best: tuple[float, Numbers] | None = None
        for _ in range(1 + self.repeats):
            wait_until_idle(self.idle_timeout_s)
            with watched(self.beside) as watch:
                numbers = call()
            say(f"  {key}: {watch.seconds:.1f} s, others took {watch.others:.0%} of the cores")
            if best is None or watch.others < best[0]:
                best = (watch.others, numbers)
            if watch.others < TOO_MUCH:
                break
        assert best is not None
        self.others.append(best[0])
        self.values.setdefault(key, []).append(best[1])
        return best[1]

    def of(self, key: str, number: str) -> tuple[float, ...]:
        """Return one number of all rounds."""
        return tuple(values[number] for values in self.values.get(key, []))


def say(text: str) -> None:
    """Print progress to stderr, so that the table can be piped."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.run", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this part; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    parser.add_argument(
        "--earlier",
        type=Path,
        metavar="FOLDER",
        help="an earlier checkout of this project, measured beside it, except for bombs, pressure and the head",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    parser.add_argument("--name", help="name of the result's files (default: the date)")
    parser.add_argument(
        "--idle-timeout", type=float, default=60, help="seconds to wait for an idle machine before each round"
    )
    parser.add_argument(
        "--patience", dest="idle_timeout", type=float, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else Scale()
    wanted = [name for name in NAMES if not options.only or name in options.only]
    about: dict[str, Any] = {"command": _command(options), "machine": machine(), "scale": asdict(scale)}
    rounds = Rounds(idle_timeout_s=0 if options.quick else options.idle_timeout, repeats=0 if options.quick else 2)
    with tempfile.TemporaryDirectory(prefix="taxonomist-benchmark-") as folder:
        say("making images and models")
        world = make_world(Path(folder), scale, options.earlier)
        rows = [row for name in wanted for row in MEASURES[name](world, scale, rounds)]
    others = Spread.of(rounds.others)
    about |= {"others_median": others.median, "others_worst": others.high}
    print(to_markdown(rows, about))
    for path in write(options.output, options.name or str(machine()["date"])[:10], rows, about):
        say(f"written: {path}")
    return 0


def _command(options: argparse.Namespace) -> str:
    parts = ["python -m benchmarks.run", *(f"--only {name}" for name in options.only or ())]
    parts += [f"--earlier {options.earlier.name}"] if options.earlier else []
    parts += ["--quick"] if options.quick else []
    return " ".join(parts + ([f"--name {options.name}"] if options.name else []))


def _take_turns(
    name: str, sides: Sequence[Side], measure: Callable[[Side], Numbers], count: int, rounds: Rounds
) -> None:
    """Measure all sides `count` times.

    The order alternates, so that slow changes of the machine affect all sides alike.
    """
    for number in range(count):
        say(f"{name}, round {number + 1} of {count}")
        for side in sides if number % 2 == 0 else reversed(sides):
            rounds.measure(f"{name} {side}", partial(measure, side))


def _row(
    rounds: Rounds,
    measure: str,
    title: str,
    what: str,
    unit: str,
    number: str,
    *,
    more: bool = False,
    compared: bool = True,
) -> Row:
    """Return the line of one number that all sides have."""
    ours, peer, earlier = (rounds.of(f"{measure} {side}", number) for side in ("ours", "peer", "earlier"))
    return Row(title, what, unit, ours, peer, more_is_better=more, compared=compared, earlier=earlier)


def _sides(world: World, *others: Side) -> tuple[Side, ...]:
    return ("ours", "earlier", *others) if world.earlier else ("ours", *others)


def _latency(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    sides = _sides(world, "peer", "peer-kept")
    _take_turns("latency", sides, lambda side: serving.latency(side, world, scale), scale.rounds, rounds)
    title = f"Latency of /predict with one task ({scale.requests} requests a round)"
    rows = []
    for key, what in (("new", "a new image"), ("again", "an image seen before")):
        for side, name in (("peer", "peer"), ("peer-kept", KEPT)):
            for part in ("p50", "p95"):
                ours, peer, earlier = (
                    rounds.of(f"latency {key_side}", f"{key}_{part}") for key_side in ("ours", side, "earlier")
                )
                rows.append(Row(title, f"{what}, {part}", "ms", ours, peer, name, earlier=earlier))
    return rows


def _throughput(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    sides = _sides(world, "peer")
    _take_turns("throughput", sides, lambda side: serving.throughput(side, world, scale), scale.rounds, rounds)
    row = partial(_row, rounds, "throughput", f"Throughput: {scale.tasks:,} tasks in one /predict")
    return [
        row("new images", "tasks/s", "new", more=True),
        row("new images, the whole request", "s", "new_seconds"),
        row("images seen before", "tasks/s", "again", more=True),
        row("memory of the server after it", "MB", "memory_after"),
    ]


def _webhooks(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    sides = _sides(world, "peer")
    _take_turns("webhooks", sides, lambda side: serving.webhooks(side, world, scale), scale.rounds, rounds)
    title = f"Webhooks: {scale.webhooks:,} annotations from {scale.clients} clients at once"
    row = partial(_row, rounds, "webhooks", title)
    return [
        row("answers", "1/s", "rate", more=True),
        row("latency p50", "ms", "p50"),
        row("latency p99", "ms", "p99"),
        row("latency, the longest", "ms", "max"),
        row("late", "webhooks", "late", compared=False),
        row("lost", "webhooks", "lost", compared=False),
    ]


def _pressure(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    _take_turns("pressure", ("ours", "peer"), lambda side: pressure(side, world, scale), scale.rounds, rounds)
    title = f"{scale.pressed:,} webhooks under pressure ({scale.clients} for the peer)"
    row = partial(_row, rounds, "pressure", title)
    return [
        row("good answers", "1/s", "rate", more=True),
        row("latency p50", "ms", "p50"),
        row("latency p99", "ms", "p99"),
        row("latency, the longest", "ms", "max"),
        row("/health at the end", "ms", "health"),
        row("late", "%", "late", compared=False),
        row("answered and lost", "webhooks", "lost", compared=False),
    ]


def _bombs(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    _take_turns("bombs", ("ours", "peer"), lambda side: bombs(side, world, scale), scale.rounds, rounds)
    row = partial(
        _row, rounds, "bombs", f"Bombs: small requests with large content from {scale.bombers} clients at once"
    )
    return [
        row("memory of the server, the most", "MB", "peak"),
        row("memory of the server after it", "MB", "after"),
        row("/health, the slowest", "ms", "health"),
        row("no answer within a minute", "requests", "unanswered", compared=False),
        row("servers that died", "count", "died", compared=False),
    ]


def _start(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    _take_turns("start", _sides(world, "peer"), lambda side: serving.start(side, world), scale.starts, rounds)
    rounds.measure("start worker", lambda: serving.with_worker(world))
    title = "Start and memory of the server"
    row = partial(_row, rounds, "start", title)
    return [
        row("until /health answers", "s", "seconds"),
        row("the first prediction", "ms", "first_ms"),
        row("memory before the first prediction, PSS", "MB", "idle_pss"),
        row("memory before the first prediction, sum of RSS", "MB", "idle_rss"),
        row("memory with the model, after one prediction, PSS", "MB", "loaded_pss"),
        row("memory with the model, after one prediction, sum of RSS", "MB", "loaded_rss"),
        Row(
            title,
            "memory with the model and an idle worker beside it, PSS",
            "MB",
            rounds.of("start worker", "worker_pss"),
        ),
    ]


def _head(world: World, scale: Scale, rounds: Rounds) -> list[Row]:
    from benchmarks.heads import HeadWorld, warm_up

    warm_up()
    rows: list[Row] = []
    for labels in scale.labels:
        heads = HeadWorld(world, labels)
        heads.make()
        ours, layers, logistic = (f"head {labels} {side}" for side in ("ours", "two layers", "scikit-learn"))
        for number in range(scale.rounds):
            say(f"head with {labels} labels, round {number + 1} of {scale.rounds}")
            rounds.measure(ours, partial(heads.ours, "lda"))
            rounds.measure(layers, partial(heads.ours, "mlp"))
            rounds.measure(logistic, heads.logistic)
            rounds.measure("head pixels", partial(heads.pixels, scale.pixels))
            rounds.measure("head embedding", partial(heads.embedding, scale.pixels))
        seconds, epochs = rounds.of(layers, "seconds"), rounds.of(layers, "epochs")
        optimising = rounds.of(layers, "optimising_s")
        an_image = [1000 * s / (e * heads.learned_from) for s, e in zip(optimising, epochs, strict=True)]
        pixels = [1000 * s for s in rounds.of("head pixels", "epoch_s_per_image")]
        embedding = [1000 * s for s in rounds.of("head embedding", "s_per_embedding")]
        title = f"Training the head on {labels:,} labels"
        rows += [
            Row(
                title,
                "whole training",
                "s",
                rounds.of(ours, "seconds"),
                rounds.of(logistic, "seconds"),
                "LogisticRegression, fit alone",
            ),
            Row(title, "of it, reading labels and embeddings", "s", rounds.of(ours, "reading_s")),
            Row(title, "of it, learning and calibrating", "s", rounds.of(ours, "optimising_s")),
            Row(title, "of it, report and publishing", "s", rounds.of(ours, "report_s")),
            Row(title, "whole training with the head of two layers", "s", seconds),
            Row(title, "its epochs", "count", epochs),
            Row(title, "an image in an epoch", "ms", tuple(an_image), tuple(pixels), "reading pixels"),
            Row(title, "embedding an image or a view, once", "ms", tuple(embedding)),
            Row(
                title,
                "accuracy of the whole path",
                "share",
                rounds.of(ours, "accuracy"),
                rounds.of(logistic, "accuracy"),
                "LogisticRegression",
                more_is_better=True,
            ),
        ]
    return rows


MEASURES: dict[str, Callable[[World, Scale, Rounds], list[Row]]] = {
    "latency": _latency,
    "throughput": _throughput,
    "webhooks": _webhooks,
    "pressure": _pressure,
    "bombs": _bombs,
    "head": _head,
    "start": _start,
}

if __name__ == "__main__":
    sys.exit(main())
