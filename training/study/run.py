"""Runs a study: every contestant on the same splits, then tables and plots in a folder."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.storage.files import storage_errors, write_atomically
from taxonomist.storage.formats import FORMAT
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.heads.report.confusions import write_confusions
from taxonomist.training.heads.report.plots import plot_confusion
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.embeddings import CachedEmbeddings
from taxonomist.training.study.fine_tune import TuneOptions
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.plots import plot_labels, plot_learning
from taxonomist.training.study.report import write_markdown
from taxonomist.training.study.scores import head_scores, summed
from taxonomist.training.study.split import Sizes, Split, draw_splits, sizes_for
from taxonomist.training.study.tables import Table, all_tables
from taxonomist.training.study.trial import Trial, run_trial


@dataclass(frozen=True)
class StudyResult:
    """`report` is study.md, `tables` are those in it, `trials` the runs by contestant, in the order of the seeds."""

    report: Path
    sizes: Sizes
    trials: dict[str, tuple[Trial, ...]]
    tables: tuple[Table, ...]


def run_study(
    labelled: LabelledImages,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    folder: Path,
    progress: StepProgress = ignore_steps,
    *,
    notes: Sequence[str] = (),
    base: str | None = None,
) -> StudyResult:
    """Run all contestants over all seeds; write study.md, study.json, tables as CSV and plots into `folder`.

    Each finished run is kept in `folder`/runs and not repeated: a study that was killed is resumed, and with more seeds
    or contestants only those are run. `notes` become part of the report. All are compared with the contestant `base`,
    by default the first. Raises ConfigError when contestants do not have distinct names, or `base` is none of them,
    TrainingError when there are too few labels, StorageError when the folder cannot be written.
    """
    slugs = [contestant.slug for contestant in contestants]
    if not slugs or len(set(slugs)) < len(slugs) or not all(slugs):
        raise ConfigError(f"The contestants of a study need distinct names; these are: {', '.join(slugs) or 'none'}.")
    if base is not None and base not in {contestant.name for contestant in contestants}:
        raise ConfigError(f"{base} is not among the contestants, so that nothing can be compared with it.")
    sizes = sizes_for(labelled.items, labelled.held_out, options.sizes)
    with storage_errors(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        trials = _run_all(labelled, contestants, options, sizes, folder / "runs", progress)
        progress("tables and plots", 1.0)
        tables = all_tables(labelled, contestants, trials, base)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as staged:
            _write(Path(staged), labelled, contestants, options, sizes, trials, tables, notes)
            for file in Path(staged).iterdir():
                file.replace(folder / file.name)
    return StudyResult(folder / "study.md", sizes, trials, tables)


def _run_all(
    labelled: LabelledImages,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    sizes: Sizes,
    folder: Path,
    progress: StepProgress,
) -> dict[str, tuple[Trial, ...]]:
    splits = draw_splits(labelled.items, labelled.held_out, sizes, options.seeds)
    embeddings: dict[str, CachedEmbeddings] = {}
    trials: dict[str, tuple[Trial, ...]] = {}
    for number, contestant in enumerate(contestants):
        frozen = embeddings.setdefault(contestant.origin, CachedEmbeddings(labelled, contestant.embed, options.views))
        runs = []
        for seed, split in enumerate(splits):
            progress(f"{contestant.name}, seed {seed}", (number + seed / len(splits)) / len(contestants))
            file = folder / f"{contestant.slug}-{seed}-{_key(labelled, contestant, options, split)}.json"
            trial = _read(file)
            if trial is None:
                trial = run_trial(labelled, contestant, split, options, seed, frozen)
                write_atomically(file, trial.to_json())
            runs.append(trial)
        trials[contestant.name] = tuple(runs)
    return trials


def _key(labelled: LabelledImages, contestant: Contestant, options: StudyOptions, split: Split) -> str:
    """Return a short hash of everything that the result of a run depends on besides its seed."""
    inputs = (
        labelled.fingerprint,
        labelled.images.shape[1],
        (contestant.origin, contestant.oversample, TuneOptions(contestant.fine_tune) if contestant.fine_tune else None),
        (options.views, options.head),
        tuple(part.tolist() for part in (split.train, split.validation, split.test)),
    )
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]


def _read(file: Path) -> Trial | None:
    """Return a finished run, None where there is none that can be read."""
    try:
        return Trial.from_json(file.read_bytes())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(
    folder: Path,
    labelled: LabelledImages,
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
        title = f"{contestant.name}, test images of {len(runs)} seeds"
        plot_confusion(report, title, folder / f"confusion-{contestant.slug}.png")
        write_confusions(report, folder / f"confusion-{contestant.slug}.csv")
    write_markdown(folder / "study.md", labelled, contestants, options, sizes, trials, tables, notes)
    raw = {
        FORMAT: 1,
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
