"""From measured numbers to the committed files: all values as JSON, and a table for people."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread

NOTES = """
Medians of all rounds, in brackets the smallest and the largest value. *Times better* is the ratio of the medians,
above 1 where ours is better. Ours and the peer take turns, and both read the same files.

- **Ours** is `taxonomist serve --no-worker`: one process with an event loop and threads, onnxruntime, embeddings
  kept.
- **The peer** (`benchmarks/peer.py`) is a typical backend on label-studio-ml: the model is built for each request,
  torch runs eagerly, one image at a time; gunicorn with `--preload --workers 1 --threads 8`, as in its
  Dockerfile. The peer *with its model kept* builds it once.
- The server has not seen a *new* image before. The peer keeps nothing, so that *again* costs it as much as *new*.
- Webhooks: a connection each, as Label Studio opens them. A *late* webhook has no good answer within Label Studio's
  second. A *lost* webhook is not in the journal (the peer: in its table) afterwards. The clients share the cores.
- Under pressure: 200 connections are silent and 200 send a byte each second, eight predictions wait for an image host
  that never answers, one asks for 1,200 new images, and a training runs. The peer is spared host and training; of it
  only a few webhooks are asked, since each waits for two seconds. A silent client holds one of its threads.
- *Earlier* is an earlier checkout of this project (`--earlier`), with a home that its own code has made.
- Bombs: 16 clients send each of these twice, all at once: an image of 8,000 x 8,000 pixels with 16 bits in a file of
  0.1 MB, an answer of an image host in a few kB that has 2 GB when it is unpacked twice, labelling configs of 80,000
  choices and of 10,000 levels (to /setup and in a webhook), a body of 64 MB. Memory is RSS. The peer reads no labelling
  config and asks no image host.
- Training the head is a whole training job: labels read from the catalogue, an embedding of each image from the store,
  learning, calibration, test, report with plots, publishing. The head of two layers (`TAXONOMIST_HEAD=mlp`) also reads
  four augmented views of each image, and stops early. scikit-learn's time is that of `fit` alone, without calibration
  and report. Accuracy is that of the whole path on the same test images. *An image in an epoch*: the head of two
  layers reads its vector; *reading pixels* is the peer's training loop with a frozen backbone, for one image.
- Memory is PSS (shared pages count once) of all processes of the server, 1 MB = 10^6 bytes.
- *Others* is the share of all cores that other processes took during a round: the machine is a shared one. A round in
  which it was large was measured again, and the least disturbed one is kept.
"""


@dataclass(frozen=True)
class Row:
    """A line of the table. `peer` is empty where a number has none beside it."""

    benchmark: str
    what: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    peer_name: str = "peer"
    more_is_better: bool = False
    compared: bool = True
    earlier: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Return how many times better ours is; None where nothing is compared or the peer's value is not a number."""
        return self._ratio(self.ours, self.peer)

    @property
    def earlier_ratio(self) -> float | None:
        """Return how many times better than the peer the earlier checkout was, as `ratio`."""
        return self._ratio(self.earlier, self.peer)

    def _ratio(self, ours: tuple[float, ...], peer: tuple[float, ...]) -> float | None:
        if not ours or not peer or not self.compared:
            return None
        value, others = Spread.of(ours).median, Spread.of(peer).median
        above, below = (value, others) if self.more_is_better else (others, value)
        return above / below if below and above == above else None


def to_json(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything as JSON, with the values of each round."""
    return {
        **about,
        "rows": [
            {**asdict(row), "times_better": row.ratio, "earlier_times_better": row.earlier_ratio, **_spreads(row)}
            for row in rows
        ],
    }


def to_markdown(rows: Sequence[Row], about: Mapping[str, Any], notes: str = NOTES) -> str:
    """Return the tables as Markdown, with the command and the machine."""
    machine = about["machine"]
    lines = [
        "# Benchmarks",
        "",
        f"`{about['command']}`, {machine['date'][:10]}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}; "
        f"Python {machine['python']}; {', '.join(f'{name} {number}' for name, number in machine['packages'].items())}; "
        f"{', '.join(f'{name} {value}' for name, value in machine['environment'].items())}.",
        f"Others took {about['others_median']:.0%} of the cores in the median round, "
        f"{about['others_worst']:.0%} in the worst.",
    ]
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        own = [row for row in rows if row.benchmark == benchmark]
        has_earlier = any(row.earlier for row in own)
        names = [
            "",
            "ours",
            "peer",
            "times better",
            *(["earlier", "times better than the peer"] if has_earlier else []),
        ]
        lines += ["", f"## {benchmark}", "", f"| {' | '.join(names)} |".replace("|  |", "| |")]
        lines += [f"| --- |{' ---: |' * (len(names) - 1)}", *(_line(row, has_earlier) for row in own)]
    return "\n".join(lines) + "\n\n## How to read it\n" + notes


def write(folder: Path, name: str, rows: Sequence[Row], about: Mapping[str, Any], notes: str = NOTES) -> list[Path]:
    """Write NAME.json and NAME.md; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{name}.json", folder / f"{name}.md"]
    made[0].write_text(json.dumps(to_json(rows, about), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made[1].write_text(to_markdown(rows, about, notes), encoding="utf-8")
    return made


def command_line(parser: ArgumentParser, options: Namespace, *, always: Collection[str] = ()) -> str:
    """Return the command with the options that differ from their defaults and those in `always`.

    The folder of the result and the time to wait for an idle machine are left out.
    """
    parts = [parser.prog]
    for name, value in vars(options).items():
        shown = name in always or value != parser.get_default(name)
        if shown and name not in {"output", "idle_timeout"}:
            parts.append(f"--{name}" if value is True else f"--{name} {value}")
    return " ".join(parts)


def _spreads(row: Row) -> dict[str, Any]:
    sides = {"ours": row.ours, "peer": row.peer, "earlier": row.earlier}
    return {f"{name}_spread": asdict(Spread.of(values)) for name, values in sides.items() if values}


def _line(row: Row, has_earlier: bool) -> str:
    ratio, earlier = ("" if number is None else f"**{_short(number)}**" for number in (row.ratio, row.earlier_ratio))
    further = f" {_cell(row.earlier)} | {earlier} |" if has_earlier else ""
    name = "" if row.peer_name == "peer" else f" ({row.peer_name})"
    return f"| {row.what}{name}, {row.unit} | {_cell(row.ours)} | {_cell(row.peer)} | {ratio} |{further}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = Spread.of(values)
    if spread.low == spread.high:
        return _short(spread.median)
    return f"{_short(spread.median)} ({_short(spread.low)}..{_short(spread.high)})"


def _short(value: float) -> str:
    if value != value:
        return "none"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
