"""How soon is a broken promise found, and how often is one called broken that is kept?

`python -m benchmarks.trust.drift --help`. Each stream is a sequence of answers to suggestions, drawn at random. The
code that watches them is that of the product. Two other rules see the same streams.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.run import RESULTS, say
from benchmarks.trust.drift_plot import plot
from taxonomist.taxonomy.calibration.clopper_pearson import clopper_pearson_lower_bound
from taxonomist.taxonomy.monitoring import PromiseWatch

Flags = NDArray[np.bool_]
NAME = "2026-11-28-drift"
BLIND = 0.05
WITHIN = 200
HORIZON = 10_000
WINDOW = 200
STARTS = (0, 1_000, 5_000)
RISK = 0.05


@dataclass(frozen=True)
class Case:
    """Streams whose answers are right with `before`, and with `after` from answer `start` on.

    `accepted` is the share of wrong suggestions that annotators accept where they see them.
    """

    target: float
    before: float
    after: float
    start: int
    answers: int
    accepted: float = 0.0


@dataclass(frozen=True)
class Line:
    """What a rule did on the streams of a case: alarms before the fall, within 200 answers of it, and at all.

    `delays` are the answers from the fall to the alarm, in the streams in which it came after the fall.
    """

    case: Case
    rule: str
    streams: int
    early: int
    soon: int
    ever: int
    delays: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=1_000, help="streams of each case")
    parser.add_argument("--seed", type=int, default=20_261_128, help="seed of the first stream of each case")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the table")
    options = parser.parse_args(arguments)
    lines = [line for case in cases() for line in run(case, options.streams, options.seed)]
    floors = [after_a_fall(name, options.streams, options.seed) for name in FALLS]
    about = {
        "command": f"python -m benchmarks.trust.drift --streams {options.streams} --seed {options.seed}",
        "machine": machine(),
        "seed": options.seed,
        "streams": options.streams,
    }
    text = table(lines, floors, about)
    path = options.output / f"{NAME}.md"
    path.write_text(text, encoding="utf-8")
    plot([line for line in lines if line.case.target == 0.9], WITHIN, options.output / f"{NAME}.png")
    print(text)
    say(f"written: {path}")
    return 0


def cases() -> list[Case]:
    """Return the cases: promises that are kept, falls, small falls, and people who accept mistakes."""
    falls = {0.9: 0.7, 0.8: 0.6, 0.95: 0.8}
    kept = [Case(target, target, target, HORIZON, HORIZON) for target in falls]
    fallen = [Case(target, target, after, start, start + 2_000) for target, after in falls.items() for start in STARTS]
    small = [Case(0.9, 0.9, 0.85, start, start + 2_000) for start in STARTS]
    hidden = [Case(0.9, 0.9, 0.7, 1_000, 6_000, accepted) for accepted in (0.5, 0.8)]
    return [*kept, *fallen, *small, *hidden]


def run(case: Case, streams: int, seed: int) -> list[Line]:
    """Return a line for each rule, from the same streams."""
    say(f"{case}")
    alarms: dict[str, list[int | None]] = {rule: [] for rule in RULES}
    for number in range(streams):
        right, blind = draw(case, np.random.default_rng([seed + number, *_key(case)]))
        for rule, alarm in RULES.items():
            alarms[rule].append(alarm(case.target, right, blind))
    return [_line(case, rule, found) for rule, found in alarms.items()]


def _key(case: Case) -> list[int]:
    return [round(1000 * case.target), round(1000 * case.after), case.start, round(1000 * case.accepted)]


def draw(case: Case, random: np.random.Generator) -> tuple[Flags, Flags]:
    """Return which answers of a stream are right (n,), and which are of blind tasks (n,)."""
    precision = np.where(np.arange(case.answers) < case.start, case.before, case.after)
    right = random.random(case.answers) < precision
    blind = random.random(case.answers) < BLIND
    accepted = random.random(case.answers) < case.accepted
    return right | (~right & ~blind & accepted), blind


def _line(case: Case, rule: str, alarms: Sequence[int | None]) -> Line:
    found = [alarm for alarm in alarms if alarm is not None]
    delays = tuple(sorted(alarm - case.start for alarm in found if alarm > case.start))
    return Line(
        case,
        rule,
        streams=len(alarms),
        early=sum(alarm <= case.start for alarm in found),
        soon=sum(delay <= WITHIN for delay in delays),
        ever=len(found),
        delays=delays,
    )


def watched(target: float, right: Flags, blind: Flags) -> int | None:
    """Return the number of answers up to the alarm of the product's watch, None without one."""
    watch = PromiseWatch(target, 0.95)
    for number, (is_right, is_blind) in enumerate(zip(right.tolist(), blind.tolist(), strict=True), 1):
        if watch.update(1.0, right=is_right, blind=is_blind):
            return number
    return None


def one_bet(target: float, right: Flags, blind: Flags) -> int | None:  # noqa: ARG001
    """Return the same of a test without restarts: bets that begin with the first answer, called at 1 / 0.05."""
    gains = []
    for odds in (1.5, 2.5, 4.0):
        mistakes = odds / (odds + target / (1 - target))
        steps = np.where(right, math.log((1 - mistakes) / target), math.log(mistakes / (1 - target)))
        gains.append(np.cumsum(steps))
    evidence = np.logaddexp.reduce(gains, axis=0) - math.log(len(gains))
    return _first(evidence >= -math.log(RISK))


def window(target: float, right: Flags, blind: Flags) -> int | None:  # noqa: ARG001
    """Return the same of a look at the last 200 answers after each answer: is their share too low at 5 %?"""
    fewest = _fewest(target)
    sums = np.cumsum(np.concatenate([[0], right]))
    return _first(np.concatenate([np.zeros(WINDOW - 1, bool), sums[WINDOW:] - sums[:-WINDOW] < fewest]))


def _fewest(target: float) -> int:
    """Return the least number of right answers of a window that a one-sided exact test at 5 % lets pass."""
    mass, count = 0.0, 0
    while True:
        mass += math.comb(WINDOW, count) * target**count * (1 - target) ** (WINDOW - count)
        if mass > RISK:
            return count
        count += 1


def _first(flags: Flags) -> int | None:
    return int(np.argmax(flags)) + 1 if flags.any() else None


RULES: Mapping[str, Callable[[float, Flags, Flags], int | None]] = {
    "the watch": watched,
    "no restarts": one_bet,
    "last 200": window,
}

FALLS: Mapping[str, Callable[[float], float]] = {
    "none": lambda score: 1 - 0.6 * (1 - score),
    "low scores are wrong": lambda score: max(0.0, 1 - 2 * (1 - score)),
    "all scores are wrong": lambda score: 0.7,
}
"""The precision of a suggestion by its score, after a fall. Before it is that of "none"."""


def after_a_fall(name: str, streams: int, seed: int) -> dict[str, Any]:
    """Return what the watch did in 3,000 images after a fall, which comes after 1,000 images.

    Scores lie between 0.6, the lowest threshold, and 1; more are high. `precision` is that of the last 1,000 images'
    suggestions, all streams together, None where none had any.
    """
    say(f"after a fall: {name}")
    floors, shown, right_ones = [], 0, 0
    for number in range(streams):
        random = np.random.default_rng([seed + number, 7])
        scores = 0.6 + 0.4 * random.beta(2, 1, 4_000)
        draws, blind = random.random(4_000), random.random(4_000) < BLIND
        watch = PromiseWatch(0.9, 0.6)
        for image, score in enumerate(scores.tolist()):
            if score < watch.floor:
                continue
            right = bool(draws[image] < FALLS["none" if image < 1_000 else name](score))
            if image >= 3_000:
                shown, right_ones = shown + 1, right_ones + right
            watch.update(score, right=right, blind=bool(blind[image]))
        floors.append(watch.floor)
    kept = [floor for floor in floors if floor == 0]
    stopped = [floor for floor in floors if math.isinf(floor)]
    risen = [floor for floor in floors if 0 < floor < math.inf]
    return {
        "fall": name,
        "streams": streams,
        "kept": len(kept),
        "risen": len(risen),
        "median_floor": median(risen) if risen else None,
        "stopped": len(stopped),
        "precision": right_ones / shown if shown else None,
        "coverage": shown / (1_000 * streams),
    }


def table(lines: Sequence[Line], floors: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Return the page with the tables."""
    kept = [line for line in lines if line.case.start == line.case.answers]
    fallen = [line for line in lines if line not in kept and not line.case.accepted]
    hidden = [line for line in lines if line.case.accepted]
    rows = [
        "# Drift: how soon a broken promise is found",
        "",
        f"Command: `{about['command']}`. Machine: {about['machine']['cpu']}, Python {about['machine']['python']}.",
        "",
        f"Each case has {about['streams']:,} simulated streams of answers, with the seeds {about['seed']} to "
        f"{about['seed'] + about['streams'] - 1}. One answer in twenty is of a blind task. *The watch* is the code of "
        "the product (`taxonomy/monitoring/promise_watch.py`). Its limit follows from an inequality, not from these "
        "streams. *No restarts* is the same bets, made once from the first answer on. *Last 200* tests the last 200 "
        "answers at 5 % after each answer. In brackets: exact 95 % intervals.",
        "",
        f"![Answers from the fall to the alarm]({NAME}.png)",
        "",
        "## The promise is kept: precision exactly at the target",
        "",
        f"| target | rule | false alarms within {HORIZON:,} answers |",
        "| --- | --- | --- |",
        *(f"| {line.case.target:g} | {line.rule} | {_share(line.ever, line.streams)} |" for line in kept),
        "",
        "## The promise breaks: the precision falls from the target",
        "",
        f"*Found* counts alarms within {WITHIN} answers of the fall; an alarm before the fall does not count.",
        "",
        "| target | falls to | after | rule | found within 200 | alarm before the fall | median | 90 % within |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_fallen(line) for line in fallen),
        "",
        "## Annotators accept mistakes that they see",
        "",
        "The precision falls from 0.9 to 0.7 after 1,000 answers, and annotators accept a share of the wrong "
        "suggestions. Blind tasks show the precision as it is.",
        "",
        "| mistakes accepted | rule | found within 200 | within 5,000 | median |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {line.case.accepted:.0%} | {line.rule} | {_share(line.soon, line.streams)} "
            f"| {_share(len(line.delays), line.streams)} | {_quantile(line, 0.5)} |"
            for line in hidden
        ),
        "",
        "## What happens after a fall",
        "",
        "A model suggests with scores from 0.6 on, at a target of 0.9; the fall comes after 1,000 images, and 3,000 "
        "more follow. *Low scores are wrong*: a score s is right with 1 − 2 (1 − s), so 0.9 and higher keep the target "
        "on average. *All scores are wrong*: each is right with 0.7. Precision and share of images are those of the "
        "suggestions for the last 1,000 images.",
        "",
        "| fall | streams | promise holds | threshold has risen | median of the risen | suggestions stopped "
        "| precision | images with a suggestion |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_floor(row) for row in floors),
        "",
    ]
    return "\n".join(rows)


def _fallen(line: Line) -> str:
    case = line.case
    return (
        f"| {case.target:g} | {case.after:g} | {case.start:,} | {line.rule} | {_share(line.soon, line.streams)} "
        f"| {_share(line.early, line.streams)} | {_quantile(line, 0.5)} | {_quantile(line, 0.9)} |"
    )


def _floor(row: Mapping[str, Any]) -> str:
    precision = "—" if row["precision"] is None else f"{row['precision']:.3f}"
    floor = "—" if row["median_floor"] is None else f"{row['median_floor']:.2f}"
    return (
        f"| {row['fall']} | {row['streams']:,} | {row['kept']:,} | {row['risen']:,} | {floor} | {row['stopped']:,} "
        f"| {precision} | {row['coverage']:.1%} |"
    )


def _share(count: int, of: int) -> str:
    low = clopper_pearson_lower_bound(count, of, 0.975)
    high = 1 - clopper_pearson_lower_bound(of - count, of, 0.975)
    return f"{count / of:.1%} ({low:.1%} to {high:.1%})"


def _quantile(line: Line, share: float) -> str:
    """Return the answers after which the share of all streams was found; a dash where fewer were."""
    place = math.ceil(share * line.streams) - 1
    return f"{line.delays[place]:,}" if place < len(line.delays) else "—"


if __name__ == "__main__":
    sys.exit(main())
