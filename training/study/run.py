"""The study from beginning to end: every contestant on the same splits, then tables and plots in a folder."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.heads.plots import plot_confusion
from taxonomist.training.study.data import Contestant, Labelled, StudyOptions
from taxonomist.training.study.fine_tune import TuneOptions
from taxonomist.training.study.plots import plot_labels, plot_learning
from taxonomist.training.study.report import write_markdown
from taxonomist.training.study.scores import head_scores, summed
from taxonomist.training.study.split import Sizes, Split, draw_split, sizes_for
from taxonomist.training.study.tables import Table, all_tables
from taxonomist.training.study.trial import Trial, run_trial
from taxonomist.training.study.vectors import Vectors

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0 to 1."""


@dataclass(frozen=True)
class StudyResult:
    """`report` is study.md, `tables` are those in it, `trials` the runs of each contestant in order of the seeds."""

    report: Path
    sizes: Sizes
    trials: dict[str, tuple[Trial, ...]]
    tables: tuple[Table, ...]


def run_study(
    labelled: Labelled,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    folder: Path,
    progress: Progress = lambda stage, share: None,
    *,
    notes: Sequence[str] = (),
) -> StudyResult:
    """Run all contestants over all seeds; write study.md, study.json, tables as CSV and plots into `folder`.

    Each run that is done is kept in `folder`/runs and not repeated: a study that was killed goes on, and one that
    gets more seeds or contestants adds those. `notes` are printed in the report. Raises ConfigError for contestants
    that cannot be told apart, TrainingError when there are too few labels, StorageError when the folder cannot be
    written.
    """
    slugs = [contestant.slug for contestant in contestants]
    if not slugs or len(set(slugs)) < len(slugs) or not all(slugs):
        raise ConfigError(
            f"The contestants of a study need names of their own; these are: {', '.join(slugs) or 'none'}."
        )
    sizes = sizes_for(labelled.items, labelled.held_out, options.sizes)
    with storage_errors(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        trials = _run_all(labelled, contestants, options, sizes, folder / "runs", progress)
        progress("tables and plots", 1.0)
        tables = all_tables(labelled, contestants, trials)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as staged:
            _write(Path(staged), labelled, contestants, options, sizes, trials, tables, notes)
            for file in Path(staged).iterdir():
                file.replace(folder / file.name)
    return StudyResult(folder / "study.md", sizes, trials, tables)


def _run_all(
    labelled: Labelled,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    sizes: Sizes,
    folder: Path,
    progress: Progress,
) -> dict[str, tuple[Trial, ...]]:
    splits = [draw_split(labelled.items, labelled.held_out, sizes, seed) for seed in range(options.seeds)]
    vectors: dict[str, Vectors] = {}
    trials: dict[str, tuple[Trial, ...]] = {}
    for number, contestant in enumerate(contestants):
        frozen = vectors.setdefault(contestant.origin, Vectors(labelled, contestant.embed, options.views))
        done = []
        for seed, split in enumerate(splits):
            progress(f"{contestant.name}, seed {seed}", (number + seed / len(splits)) / len(contestants))
            file = folder / f"{contestant.slug}-{seed}-{_key(labelled, contestant, options, split)}.json"
            trial = _read(file)
            if trial is None:
                trial = run_trial(labelled, contestant, split, options, seed, frozen)
                write_atomically(file, trial.to_json())
            done.append(trial)
        trials[contestant.name] = tuple(done)
    return trials


def _key(labelled: Labelled, contestant: Contestant, options: StudyOptions, split: Split) -> str:
    """A short hash of all that a run's result depends on besides its seed."""
    what = (
        labelled.fingerprint,
        labelled.pictures.shape[1],
        (contestant.origin, contestant.oversample, TuneOptions(contestant.fine_tune) if contestant.fine_tune else None),
        (options.views, options.head),
        tuple(part.tolist() for part in (split.train, split.validation, split.test)),
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def _read(file: Path) -> Trial | None:
    """A run that is done, None where there is none that can be read."""
    try:
        return Trial.from_json(file.read_bytes())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(
    folder: Path,
    labelled: Labelled,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    sizes: Sizes,
    trials: dict[str, tuple[Trial, ...]],
    tables: Sequence[Table],
    notes: Sequence[str],
) -> None:
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
    plot_labels(labelled, folder / "labels.png")
    for contestant in contestants:
        runs = trials[contestant.name]
        plot_learning(runs, contestant.name, folder / f"curves-{contestant.slug}.png")
        report = summed(head_scores(labelled, runs))
        title = f"{contestant.name}, test pictures of {len(runs)} seeds"
        plot_confusion(report, title, folder / f"confusion-{contestant.slug}.png")
    write_markdown(folder / "study.md", labelled, contestants, options, sizes, trials, tables, notes)
    raw = {
        "options": asdict(options),
        "sizes": asdict(sizes),
        "contestants": [
            {name: getattr(contestant, name) for name in ("name", "origin", "oversample", "fine_tune")}
            for contestant in contestants
        ],
        "notes": list(notes),
        "fingerprint": labelled.fingerprint,
        "held_out": sorted(labelled.held_out),
        "nodes": [list(path) for path in labelled.tree.paths],
        "ids": list(labelled.ids),
        "labels": [labelled.tree.index[path] for path in labelled.paths],
        "trials": [asdict(trial) for runs in trials.values() for trial in runs],
    }
    text = json.dumps(raw, separators=(",", ":"), ensure_ascii=False)
    (folder / "study.json").write_text(text, encoding="utf-8")
