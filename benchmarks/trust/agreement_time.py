"""How long does it take to learn from 100,000 annotations how often people are right?

`python -m benchmarks.trust.agreement_time --help`.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.run import RESULTS
from benchmarks.trust.simulated_people import HARSH, Scenario, simulate
from taxonomist.taxonomy.agreement import ImageAnswers, fit
from taxonomist.taxonomy.agreement.dawid_skene import probabilities

_SEED = 7000
_SCENARIOS = {
    "8 x 6 nodes, one label, 4 of 20 people": Scenario((8, 6), 4, 20, 2, mistakes=HARSH),
    "20 x 10 x 5 nodes, one to three labels, 4 of 20 people": Scenario((20, 10, 5), 4, 20, 2, True, HARSH),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=25_000, help="images, of four annotations (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result (default: %(default)s)")
    options = parser.parse_args(arguments)
    about = machine()
    lines = [
        "# Learning what annotators weigh: time",
        "",
        f"`python -m benchmarks.trust.agreement_time --images {options.images}`, seed {_SEED}; {about['cpu']}, "
        f"{about['cores']} cores, Python {about['python']}; one process",
        "",
        "| annotations | learn the rates, s of one core | decide one image with them, ms | largest memory so far, MB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, scenario in _SCENARIOS.items():
        simulation = simulate(scenario, options.images, _SEED)
        images = [ImageAnswers(said) for said in simulation.answers]
        begun = time.process_time()
        rates = fit(images, simulation.tree)
        learned = time.process_time()
        for image in images[:1000]:
            probabilities(image.answers, simulation.tree, rates)
        decided = (time.process_time() - learned) / min(1000, len(images))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        count = f"{4 * options.images:,}: {name}"
        lines.append(f"| {count} | {learned - begun:.1f} | {1000 * decided:.2f} | {memory:.0f} |")
    text = "\n".join([*lines, "", "Reading the annotations from the journal is not part of it.", ""])
    (options.output / "2026-11-28-agreement-time.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
