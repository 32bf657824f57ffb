"""Images per second of our pre-training beside lightly's own MoCo: `python -m benchmarks.pretraining --help`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.contrastive import Numbers, Work, encoders_alone, lightlys, make_images, ours, prepared, quiet
from benchmarks.measure import Spread, machine
from benchmarks.report import Row, command_line, to_markdown, write
from benchmarks.run import RESULTS, Rounds, say
from taxonomist.training.devices import choose_precision

EXAMPLES = """examples:
  python -m benchmarks.pretraining                       64 pixels, batches of 128, on all cores or the GPU; 7 minutes
  python -m benchmarks.pretraining --size 100 --precision bf16-mixed
  python -m benchmarks.pretraining --quick --output /tmp/quick   a test of the benchmark; its numbers mean nothing
"""
NOTES = """
Medians of all rounds, in brackets the smallest and the largest value. The sides take turns, each trains for the same
time in the same process, after some steps to warm up; same files, encoder (ResNet18), size of views, batch, queue and
precision; one more row has ours in the precision that it chooses by trial on the device, and the peer as above.

- **Ours** is `pretrain` as `taxonomist pretrain` calls it, writing its checkpoints: images that were prepared once,
  views made in batches on the device that trains, keys shuffled for batch norm.
- **The peer** is MoCo v2 from lightly's parts, put together as in its documentation: `LightlyDataset` of the JPEG files
  (160 pixels), `MoCoV2Transform` (Pillow) in as many DataLoader workers as there are threads, pytorch-lightning. It
  writes no checkpoints or logs, and its keys are not shuffled.
- *Encoders alone* is the limit: both encoders forward, one back, and the optimiser, on random numbers, channels last.
- *Waiting* is the share of the time in which the training waited for the next batch.
- *Preparing* is paid once for each image, independent of the number of epochs; here on one core.
- *Others* is the share of all cores that other processes took during a round. A round in which it was large was
  measured again, and the least disturbed one is kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pretraining",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--size", type=int, default=64, help="side of a view in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch (default: %(default)s)")
    parser.add_argument("--queue", type=int, default=4096, help="keys in the queue (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of training in each (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4096, help="number of files made (default: %(default)s)")
    parser.add_argument("--pictures", dest="images", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=cores, help="of torch, and workers of the peer's DataLoader")
    parser.add_argument(
        "--precision", choices=("32-true", "bf16-mixed", "16-mixed"), default="32-true", help="of all sides"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="few and small: a test of the benchmark itself")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    parser.add_argument("--name", help="name of the result's files (default: the date and pretraining)")
    parser.add_argument("--idle-timeout", type=float, default=60, help="seconds to wait for an idle machine, each time")
    parser.add_argument(
        "--patience", dest="idle_timeout", type=float, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    options = parser.parse_args(arguments)
    quiet()
    torch.set_num_threads(options.threads)
    work = Work(
        size=options.size,
        batch=options.batch,
        queue=options.queue,
        seconds=options.seconds,
        precision=options.precision,
        device=options.device,
        workers=options.threads,
        images=options.images,
    )
    if options.quick:
        work = Work(32, 8, 64, 0.1, work.precision, work.device, work.workers, 64, warm_up=2)
    rounds = Rounds(idle_timeout_s=0 if options.quick else options.idle_timeout, repeats=0 if options.quick else 2)
    count = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="taxonomist-benchmark-") as folder:
        _measure(work, Path(folder), rounds, count)
    others = Spread.of(rounds.others)
    device = torch.cuda.get_device_name() if work.device == "cuda" else "CPU"
    computer = machine()
    packages = {name: version(name) for name in ("lightly", "pytorch-lightning", "torch", "torchvision", "pillow")}
    about = {
        "command": command_line(parser, options, always=["threads"]),
        "machine": {**computer, "packages": packages, "threads": options.threads},
        "device": device,
        "scale": {**asdict(work), "rounds": count},
        "others_median": others.median,
        "others_worst": others.high,
    }
    rows = _rows(work, rounds, device)
    print(to_markdown(rows, about, NOTES))
    for path in write(options.output, options.name or f"{str(computer['date'])[:10]}-pretraining", rows, about, NOTES):
        say(f"written: {path}")
    return 0


def _measure(work: Work, folder: Path, rounds: Rounds, count: int) -> None:
    say("making images")
    files, stored = folder / "images", folder / "images.u8"
    make_images(files, work.images)
    sides: dict[str, Callable[[], Numbers]] = {
        "ours": partial(ours, work, stored),
        "peer": partial(lightlys, work, files),
        "encoders": partial(encoders_alone, work),
        "ours as it comes": partial(ours, replace(work, precision=chosen(work)), stored),
    }
    for number in range(count):
        say(f"round {number + 1} of {count}")
        rounds.measure("preparing", partial(prepared, files, stored))
        # Each round begins with another side, so that slow changes of the machine affect all sides alike.
        names = list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]
        for name in names:
            numbers = rounds.measure(name, sides[name])
            say("    " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))


def chosen(work: Work) -> str:
    """Return the precision that `pretrain` would choose on this device."""
    return choose_precision(torch.device(work.device))


def _rows(work: Work, rounds: Rounds, device: str) -> list[Row]:
    title = (
        f"MoCo v2, ResNet18, {work.size} pixels, batches of {work.batch}, queue of {work.queue}, {work.precision}, "
        f"{device}"
    )
    limit, rate, peer = (rounds.of(name, "rate") for name in ("encoders", "ours", "peer"))
    shares = [tuple(value / most for value, most in zip(values, limit, strict=True)) for values in (rate, peer)]
    waiting = [rounds.of(name, "waiting") for name in ("ours", "peer")]
    return [
        Row(title, "training", "images/s", rate, peer, more_is_better=True),
        Row(
            title,
            f"training, ours in the precision that it chooses here ({chosen(work)})",
            "images/s",
            rounds.of("ours as it comes", "rate"),
            peer,
            more_is_better=True,
        ),
        Row(title, "encoders alone", "images/s", limit),
        Row(title, "of that limit reached", "share", shares[0], shares[1], compared=False),
        Row(title, "waiting for data", "share", waiting[0], waiting[1], compared=False),
        Row(title, "preparing, once", "images/s", rounds.of("preparing", "rate")),
    ]


if __name__ == "__main__":
    sys.exit(main())
